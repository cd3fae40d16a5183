"""Write docs/rules.md and the tables of other pages from what is in code; docs/strength.md, external.md from what was measured.

    python docs/generate.py

docs/strength.md needs runs/strength.json (python -m properties.strength --json runs/strength.json) and
runs/controls.json (pytest gates/ --all-controls); `make strength` runs all three. docs/external.md is
written from what is kept in docs/measured: its commands are on the page itself. So is docs/wild.md.
"""

import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fixtures.external import ALIASES, EXTERNAL, SOURCES, Alias, External
from fixtures.external.answer import Verdict
from fixtures.mutants import MUTANTS
from fixtures.wild.findings import findings
from fixtures.wild.table import LOOPS
from gates.verdict.definition import GATES
from gates.verdict.definition import controls as all_controls
from honestloop import conventions, run_check, schemas
from properties.checks import all_properties
from reference.rules import RULES, Rule

FAMILIES = {
    "SUBJ": "Every function",
    "MATMUL": "Matrix products",
    "LOSS": "Loss and reductions",
    "MASK": "Masks and shift",
    "ATT": "Attention",
    "NORM": "Normalisation",
    "ACT": "Activation",
    "ROPE": "Rotary positions",
    "DROP": "Dropout",
    "MODEL": "Model",
    "GRAD": "Gradients",
    "OPT": "AdamW and parameter groups",
    "CLIP": "Clipping",
    "SCHED": "Schedule",
    "DATA": "Data iterator and batches",
    "RNG": "Separation of random streams",
    "LOOP": "The loop",
    "EVAL": "Evaluation purity",
    "STATE": "Checkpoints and the state machines",
    "PPL": "Perplexity",
    "NGRAM": "n-gram baselines",
    "ROUND": "Rounding to float16 and bfloat16",
    "TOK": "Tokenizer",
    "UPDATE": "Updates of a whole run",
    "AUDIT": "The whole run, audited",
    "RESUME": "Resume of a whole run",
    "CRASH": "Runs that are killed, of any script",
    "CKPT": "Checkpoint and model files",
    "MAN": "Manifest",
    "TRACK": "Tracking",
    "DRIFT": "Low-precision drift",
    "DECL": "What a loop with its own generator declares",
    "SUITE": "The suite itself",
    "DIR": "A run directory",
    "RECORD": "The record of a run",
    "OWN": "A model of your own",
    "INV": "A loop with its own model: what holds of any",
    "COLL": "Batches of prompts and completions",
    "WORK": "Workers of a data loader",
    "SPLIT": "Splits",
    "LAST": "The latest checkpoint",
    "EXP": "Exports",
    "MIX": "Parameters of 16 bits, and several float types in one call",
}


def checked_by() -> dict[str, list[str]]:
    """Rule -> the properties and gate checks that hold a subject to it."""
    found: dict[str, list[str]] = {rule: [] for rule in RULES}
    for rule in ("SUBJ-05", "SUBJ-07"):
        found[rule].append("every call (`honestloop/guard/`)")
    for rule in run_check.CHECKED:
        found[rule].append("`honestloop check-run`")
    for test, prop in all_properties().items():
        for rule in prop.rules:
            found[rule].append(f"`properties/{test}`")
    for gate in GATES:
        for name, rule in gate.checks.items():
            found[rule].append(f"gate `{gate.name} / {name}`")
    return found


def killers() -> dict[str, list[str]]:
    """Rule -> the mutants and wrong loops that it must refuse."""
    found: dict[str, list[str]] = {rule: [] for rule in RULES}
    for mutant in MUTANTS.values():
        for rule in mutant.rules:
            found[rule].append(mutant.id)
    checks = {(gate.name, name): rule for gate in GATES for name, rule in gate.checks.items()}
    for control in all_controls():
        found[checks[control.gate, control.check]].append(control.name)
    return found


def rules_page() -> str:
    """docs/rules.md."""
    lines = [
        "# The rules",
        "",
        "What a correct training loop satisfies. Generated from `reference/rules.toml` by `python docs/generate.py`; an id",
        "never changes its meaning. *Needs* names rules whose breakage explains this one: it is then reported as blocked.",
        "",
        "Each rule has a few lines that break it, and the same lines mended. In them, `np` is NumPy, `F` is",
        "`torch.nn.functional`, and a function that is not defined there is that of `reference/` by its name, or does what",
        "its name says. Most are run by a test: the rule refuses the first and not the second.",
        "",
    ]
    by, wrong = checked_by(), killers()
    for family in dict.fromkeys(rule.family for rule in RULES.values()):
        lines += [f"## {FAMILIES[family]}", ""]
        for rule in RULES.values():
            if rule.family == family:
                lines += rule_entry(rule, by[rule.id], wrong[rule.id])
    return "\n".join(lines).rstrip() + "\n"


def rule_entry(rule: Rule, by: list[str], wrong: list[str]) -> Iterator[str]:
    """One rule; the heading is its address."""
    yield from (f"### {rule.id}", "", f"**{sentence(rule.statement)}**", "")
    yield f"- Why it matters: {rule.why}"
    yield f"- Look for: {rule.hint}"
    yield f"- Source: {rule.source}"
    yield f"- Checked by: {', '.join(by)}"
    if rule.needs:
        yield f"- Needs: {', '.join(f'[{needed}](#{needed.lower()})' for needed in rule.needs)}"
    if wrong:
        yield f"- Refuses: {', '.join(f'`{name}`' for name in wrong)}"
    yield from ("", "Breaks it:", "", f"```{rule.language}", rule.wrong, "```", "")
    yield from ("Mended:", "", f"```{rule.language}", rule.right, "```", "")


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def strength_page(measured: dict[str, Any], controls: list[dict[str, Any]]) -> str:
    """docs/strength.md."""
    parts = [
        summary(measured, controls),
        rules_table(measured),
        mutant_table(measured),
        control_table(controls),
        catalogue(),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def summary(measured: dict[str, Any], controls: list[dict[str, Any]]) -> Iterator[str]:
    """What mutants and wrong loops are, what counting them is worth, and the counts."""
    seconds = sorted(first_kill(result) for result in measured["results"])
    refused = sum(bool(control["refused"]) for control in controls)
    share = 100.0 * measured["diagnosed"] / measured["mutants"]
    yield from ("# How strong the suite is", "")
    yield "A *mutant* is a correct implementation with one mistake in one function (`fixtures/mutants/`); a *wrong loop* is a"
    yield "whole training run with one mistake (`fixtures/controls/`). `make strength` measures all of this anew and writes"
    yield "this page."
    yield ""
    yield "What the counts are worth: the mutants were written for this suite, together with its rules, and one that no rule"
    yield "refused led to a stricter rule. That all of them are killed is a regression test: no mistake that was once noticed is"
    yield "missed today. It does not say which share of other people's mistakes is noticed. In the same way the diagnosis is measured"
    yield "on mistakes that are in the table it chooses from. How many faults that others have collected the suite refuses, and how"
    yield "many of those the diagnosis names, is measured in [external.md](external.md)."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| mutants killed, each by every rule that it lists | {measured['killed']} of {measured['mutants']} |"
    yield f"| mutants that the diagnosis names, alone or with others that behave the same | {measured['diagnosed']} of {measured['mutants']} ({share:.1f} %) |"
    yield f"| wrong loops refused by the gates, each for its own fault | {refused} of {len(controls)} |"
    yield f"| seconds from the start of a property to the first failing example: median, largest | {seconds[len(seconds) // 2]:.2f}, {seconds[-1]:.2f} |"
    yield f"| rules, properties | {len(RULES)}, {len(all_properties())} |"
    yield ""


def first_kill(result: dict[str, Any]) -> float:
    """Seconds until the first failing example of the property that refused a mutant soonest."""
    return float(min((kill["seconds"] for kill in result["kills"].values()), default=float("inf")))


def rules_table(measured: dict[str, Any]) -> Iterator[str]:
    """Margins of correct subjects and of mutants, by rule."""
    subjects = measured["margins"]
    yield from ("## Margins", "")
    yield "Error / derived bound: the largest of each correct subject (at most 1), and the smallest of a mutant that the rule"
    yield "refused (above 1). *exact*: bytes or facts are compared. Profile of the correct subjects: as in CI."
    yield ""
    yield f"| rule | {' | '.join(subjects)} | smallest of a mutant | mutants refused |"
    yield f"|---|{'---|' * len(subjects)}---|---|"
    for rule in RULES:
        refused = [result["kills"][rule] for result in measured["results"] if rule in result["kills"]]
        if not refused:
            continue
        finite = [kill["ratio"] for kill in refused if kill["ratio"] is not None]
        cells = [f"{m[rule]:.2g}" if rule in m else "" for m in subjects.values()]
        least = f"{min(finite):.3g}" if finite else "exact"
        yield f"| [{rule}](rules.md#{rule.lower()}) | {' | '.join(cells)} | {least} | {len(refused)} |"
    yield ""


def mutant_table(measured: dict[str, Any]) -> Iterator[str]:
    """A row for each mutant: the mistake, the rules that must refuse it, those that do as well, what the diagnosis names."""
    yield from ("## Mutants", "")
    yield "*Named*: what the diagnosis names, where another mutant comes first; those that it names behave the same on every"
    yield "example seen. It names nothing where repeated calls do not show the mistake, as for a global generator that is seeded."
    yield ""
    yield "| mutant | the mistake | bug | must refuse it | refused as well by | named | s |"
    yield "|---|---|---|---|---|---|---|"
    for result in measured["results"]:
        mutant = MUTANTS[result["mutant"]]
        must = ", ".join(rule if rule in result["kills"] else f"**{rule} SURVIVES**" for rule in mutant.rules)
        also = ", ".join(rule for rule in RULES if rule in result["kills"] and rule not in mutant.rules)
        named = (
            ""
            if result["named"][:1] == [mutant.id]
            else ", ".join(f"`{n}`" for n in result["named"][:3]) or "nothing"
        )
        bugs = ", ".join(map(str, mutant.bugs))
        yield f"| `{mutant.id}` | {mutant.mistake} | {bugs} | {must} | {also} | {named} | {first_kill(result):.2f} |"
    yield ""


def control_table(controls: list[dict[str, Any]]) -> Iterator[str]:
    """The wrong loops."""
    yield from ("## Wrong loops", "")
    yield "| wrong loop | what is wrong | bug | refused by |"
    yield "|---|---|---|---|"
    outcome = {control["control"]: control for control in controls}
    for control in all_controls():
        found = outcome.get(control.name, {})
        by = f"{control.gate} / {control.check}" if found.get("refused") else "**NOT REFUSED**"
        yield f"| `{control.name}` | {control.wrong} | {', '.join(map(str, control.bugs))} | {by} |"
    yield ""


def catalogue() -> Iterator[str]:
    """Rows of the catalogue of real bugs that are covered, and those that do not apply yet."""
    rows = tomllib.loads((ROOT / "fixtures" / "mutants" / "catalogue.toml").read_text(encoding="utf-8"))
    yield from ("## The catalogue of real bugs", "")
    yield "Mistakes that were made in public training loops (`fixtures/mutants/catalogue.toml`), and what stands for them here."
    yield ""
    yield "| row | mistake | covered by |"
    yield "|---|---|---|"
    for number, row in rows.items():
        yield f"| {number} | {row['title']} | {covered(row)} |"


def covered(row: dict[str, Any]) -> str:
    names: Iterable[str] = [*row.get("mutants", ()), *row.get("gates", ()), *row.get("tests", ())]
    return ", ".join(f"`{name}`" for name in names) or f"not yet: {row['not_applicable']}"


def external_page(
    *halves: dict[str, Any], left_out: dict[str, Any] | None = None, peers: dict[str, Any] | None = None
) -> str:
    """docs/external.md, of what the command measured of one half of the table or of each.

    `left_out`: what the diagnosis said of mutants that its table lacked; `peers`: what other tools said.
    """
    left = tomllib.loads(
        (ROOT / "fixtures" / "external" / "not_expressible.toml").read_text(encoding="utf-8")
    )
    runs: dict[str, list[dict[str, Any]]] = {}
    for result in (result for half in halves for result in half["results"]):
        runs.setdefault(result["fault"], []).append(result)
    parts = [
        external_introduction(halves),
        *(external_summary(half) for half in halves),
        left_out_summary(left_out) if left_out else (),
        external_counts(runs, left),
        external_table(runs),
        external_peers(peers) if peers else (),
        external_left(left),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def external_introduction(halves: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the table is, what its figures are worth, and how to repeat them."""
    yield from ("# Faults that others collected", "")
    yield "The mutants of [strength.md](strength.md) were written for this suite. These faults were not: they are what benchmarks of"
    yield "silent training faults, the validation of other tools and their catalogues of rules describe, each translated once, in a"
    yield "few lines over the reference loop or one function (`fixtures/external/`). The translations are ours, their choice is not."
    yield ""
    yield "What the counts are worth. A fault that a framework or a loop really had says more than one that was planted in a beginner's"
    yield "model: of the 490 faults of five of such benchmarks 18.5 % were found realistic, and half of those tried could be reproduced"
    yield "(arXiv 2412.16336). So read the rows of SBK, TC and TP first, and DC last. An operator of a mutation tool that is translated"
    yield "ten times, once for each activation, counts ten times. A translation of a bug of several processes shows what one process"
    yield "would see of it. And what cannot be written for the protocol is listed at the end: no figure speaks of it."
    yield ""
    yield "The right answer for each fault (a name, a number, a place in the chain from rows to parameters) was committed beside it"
    yield "before any was run. Half of the faults, by SHA-256 of the id, are held out until the diagnosis is finished. *Right*: it names a"
    yield "mistake whose words are true of the fault, alone or with others that it cannot tell apart, or the convention that explains it."
    yield "*Localised*: the place or the number is right. *Silent*: it says nothing. *Wrong*: it says something else."
    yield ""
    yield "```"
    for half in halves:
        file = f"docs/measured/external_{half['half'].replace('-', '_')}.json"
        yield f"python -m properties.external --half {half['half']} --profile {half['profile']} --seeds {half['seeds']} --json {file}"
    yield "python docs/generate.py"
    yield "```"
    yield ""


def external_summary(measured: dict[str, Any]) -> Iterator[str]:
    """The counts of one half."""
    title = {"open": "The open half", "held-out": "The held-out half", "all": "Both halves"}[measured["half"]]
    yield from (f"## {title}", "")
    if measured["half"] == "held-out":
        yield "Graded once, when the diagnosis was finished; the figures are those of that run. While the diagnosis was written, the"
        yield "translations and answers of DC and TDC, this half included, had been seen; those of the other collections had not. Without"
        yield f"these two: {', '.join(unseen(measured))}. Properties that were added later refuse more."
        yield ""
    yield f"Profile {measured['profile']}, {counted_seeds(measured['seeds'])} of Hypothesis."
    yield ""
    yield from ("| | |", "|---|---|")
    yield f"| faults refused, with every seed | {measured['refused']} of {measured['faults']} |"
    for verdict in Verdict:
        share = 100.0 * measured[verdict] / max(measured["diagnosed"], 1)
        yield f"| diagnosis {verdict}, of all failures | {measured[verdict]} of {measured['diagnosed']} ({share:.1f} %) |"
    yield ""


def counted_seeds(n: int) -> str:
    return f"{n} seed{'s' * (n > 1)}"


def unseen(measured: dict[str, Any]) -> Iterator[str]:
    """The verdicts on the collections that nobody had looked into."""
    found = Counter(
        result["verdict"]
        for result in measured["results"]
        if result["rule"] and not result["fault"].startswith(("DC-", "TDC-"))
    )
    for verdict in Verdict:
        yield f"{found[verdict]} {verdict}"


def left_out_summary(measured: dict[str, Any]) -> Iterator[str]:
    """The counts of mutants that the diagnosis did not know."""
    yield from ("## Mutants that the diagnosis does not know", "")
    yield "Each mutant of a sample was taken out of the table, refused, and diagnosed without it. What was said is judged by examples"
    yield "that the diagnosis had not seen: another mistake, a convention or a number is *right* if it behaves like the mutant in all of"
    yield "them; a place is *localised* if it is one that the broken rule or the function is about. The diagnosis was mended on this"
    yield "same sample: before that 9 of its 59 were wrong, all of them places. Another seed draws another sample."
    yield ""
    yield from (
        "```",
        f"python -m properties.left_out --seed {measured['seed']} --json docs/measured/left_out.json",
        "```",
        "",
    )
    yield from ("| | |", "|---|---|")
    yield f"| mutants left out and refused | {measured['diagnosed']} of {measured['left out']} |"
    for verdict in Verdict:
        share = 100.0 * measured[verdict] / max(measured["diagnosed"], 1)
        yield f"| diagnosis {verdict} | {measured[verdict]} ({share:.1f} %) |"
    yield ""
    for name, said in measured["said wrongly"].items():
        yield f"- wrong: `{name}`: {said}"
    yield ""


def external_counts(runs: dict[str, list[dict[str, Any]]], left: dict[str, Any]) -> Iterator[str]:
    """A row for each collection, those of real loops first."""
    kinds = list(dict.fromkeys(source.kind for source in SOURCES.values()))
    yield from ("## By collection", "")
    yield "*Written*: faults translated, and names that are another row again. *Left*: rows that cannot be written."
    yield ""
    yield "| | collection | size | kind | written | left | graded | refused | right | localised | silent | wrong |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for key, source in sorted(SOURCES.items(), key=lambda item: kinds.index(item[1].kind)):
        mine = [fault.id for fault in EXTERNAL.values() if fault.publisher == key]
        again = sum(alias.publisher == key for alias in ALIASES.values())
        absent = sum(kind.get("count", len(kind["ids"])) for kind in left[key].get("left", ()))
        cells = counted([runs[id] for id in mine if id in runs])
        size = f"{left[key]['size']} {left[key]['unit']}"
        yield f"| {key} | {source.title} ({source.reference}) | {size} | {source.kind} | {len(mine)} + {again} | {absent} | {cells} |"
    yield ""


def counted(faults: list[list[dict[str, Any]]]) -> str:
    """Cells: faults graded, those refused with every seed, and the diagnoses of each verdict, over all seeds."""
    refused = sum(all(run["rule"] for run in fault) for fault in faults)
    told = [
        sum(run["verdict"] == v and bool(run["rule"]) for fault in faults for run in fault) for v in Verdict
    ]
    return " | ".join(map(str, (len(faults), refused, *told)))


def external_table(runs: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """A row for each fault."""
    yield from ("## The faults", "")
    yield "*Refused by*: the first rule, for each seed. *Says*: what the diagnosis says; *verdict*: what that is worth."
    yield ""
    yield from (
        "| id | published as | what a loop does | refused by | says | verdict |",
        "|---|---|---|---|---|---|",
    )
    rows: list[External | Alias] = [*EXTERNAL.values(), *ALIASES.values()]
    for row in rows:
        id = ", ".join((row.id, *row.also))
        if isinstance(row, Alias):
            yield f"| {id} | {row.published} | = {row.same_as} | | | |"
        elif row.id not in runs:
            yield f"| {id} | {row.published} | {row.mistake} | not graded here | | |"
        else:
            yield f"| {id} | {row.published} | {row.mistake} | {' | '.join(outcomes(runs[row.id]))} |"
    yield ""


def outcomes(results: list[dict[str, Any]]) -> Iterator[str]:
    """Cells: rules, what was said, verdicts; each once, in the order of the seeds."""
    said = [
        [
            *(f"`{n}`" for n in s["names"]),
            *(f"{k} = {v}" for k, v in s["conventions"].items()),
            s["number"],
            s["place"],
        ]
        for s in (result["said"] for result in results)
    ]
    for column in (
        [result["rule"] or "**SURVIVES**" for result in results],
        [", ".join(filter(None, one)) or "nothing" for one in said],
        [result["verdict"] for result in results],
    ):
        yield "; ".join(dict.fromkeys(column))


def external_peers(found: dict[str, Any]) -> Iterator[str]:
    """What other tools notice of the same faults."""
    yield from ("## Other tools", "")
    yield "The open half again, each fault as a change of one PyTorch loop (`benchmarks/peers_external/`), and what the checks of other"
    yield "tools that fit a training loop object to; a check that objects to the right loop is not counted. It is another experiment than"
    yield "the one above: what they are asked was chosen by us, and much of what they look for (memory, devices, ranks) is not in it."
    yield ""
    yield "```"
    yield "pip install --requirement requirements-peers-external.txt"
    yield "python -m benchmarks.external_peers --json docs/measured/external_peers.json"
    yield "```"
    yield ""
    yield from (f"| tool | notices, of {found['faults']} | which, and by what |", "|---|---|---|")
    for peer, said in found["peers"].items():
        noticed = {id: ", ".join(checks) for id, checks in said["faults"].items() if checks}
        which = "; ".join(f"{id} ({by})" for id, by in noticed.items())
        yield f"| {peer} | {len(noticed)} | {which} |"
    yield ""
    without = "; ".join(f"{id} ({why})" for id, why in found["not here"].items())
    yield f"Not asked of them: {without}."
    yield ""


def external_left(left: dict[str, Any]) -> Iterator[str]:
    """What cannot be written for the protocol."""
    yield from ("## What cannot be written", "")
    yield from ("| | number | which | why |", "|---|---|---|---|")
    for key, entry in left.items():
        for kind in entry.get("left", ()):
            ids = ", ".join(kind["ids"])
            yield f"| {key} | {kind.get('count', len(kind['ids']))} | {ids} | {kind['reason']} |"


def wild_page(measured: dict[str, Any]) -> str:
    """docs/wild.md, of what `python -m properties.wild` measured of each loop."""
    return "\n".join(
        [*wild_introduction(measured), *(line for name in measured for line in wild_loop(measured[name]))]
    )


def wild_introduction(measured: dict[str, Any]) -> Iterator[str]:
    """What was graded, how, and a row for each loop."""
    yield from ("# In the wild", "")
    yield "Loops that others wrote, graded as they are: each by an adapter in `fixtures/wild/`, those of Trainer, Lightning and Keras of"
    yield "at most 50 lines on templates that come with the wheel (`honestloop init my_adapter --from trainer`). What a loop does"
    yield "otherwise than a rule asks is one of three: a convention, which the adapter declares; a *decision* of its maintainers,"
    yield "documented or defended by them; or a *finding*, which is shown below with that library alone. A run is green if exactly"
    yield "the rules that are named here fail."
    yield ""
    yield "```"
    yield "make wild"
    yield "```"
    yield ""
    yield "does it all in an environment of its own, `.venv-wild` (`requirements-wild.txt`): it grades each loop with a few examples that"
    yield "are always the same, runs every reproduction, and ends in status 1 if one no longer shows what is said of it. One loop:"
    yield "`python -m properties.wild trainer`."
    yield ""
    yield from ("| loop | versions | rules that hold | rules that fail |", "|---|---|---|---|")
    for name, result in measured.items():
        versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
        held = [rule for rule, status in result["rules"].items() if status == "holds"]
        failed = [rule for rule, status in result["rules"].items() if status == "expected failure"]
        yield f"| {LOOPS[name].title} | {versions or result['repository']} | {', '.join(held)} | {', '.join(failed) or 'none'} |"
    yield ""


def wild_loop(result: dict[str, Any]) -> Iterator[str]:
    """What was found in one loop, each with its reproduction and what that printed."""
    yield from (f"## {LOOPS[result['loop']].title}", "")
    for finding in findings().values():
        if finding.loop != result["loop"]:
            continue
        kind = "Decision" if finding.decision else "Finding"
        yield f"**{kind}{', ' if finding.rules else ''}{', '.join(finding.rules)}.** {finding.says}"
        yield f"Reported: {', '.join(finding.threads)}." if finding.threads else "No report of it was found."
        yield ""
        if finding.script:
            yield from ("<details><summary>reproduction</summary>", "", "```python")
            yield finding.script.read_text(encoding="utf-8").rstrip()
            yield from ("```", "", "prints", "", "```")
            yield result["reproductions"][finding.id]["output"]
            yield from ("```", "", "</details>", "")


PLACE = re.compile(r"<!-- schema: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
CONVENTIONS = re.compile(r"<!-- conventions -->.*?<!-- end -->", re.DOTALL)


def run_directory_page(page: str) -> str:
    """docs/run-directory.md with the part of each file made anew from its schema; the text between is left."""
    return PLACE.sub(lambda found: "\n".join(file_entry(found[1])) + "\n<!-- end -->", page)


def conventions_table(page: str) -> str:
    """docs/your-loop.md with the table of conventions made anew; the text around it is left."""
    rows = [
        f"| `{key}` | {', '.join(f'`{value}`' for value in values)} | {conventions.MEANING[key]} |"
        for key, values in conventions.LEGAL.items()
    ]
    table = "\n".join(["<!-- conventions -->", "| key | values | meaning |", "| --- | --- | --- |", *rows])
    return CONVENTIONS.sub(lambda _: f"{table}\n<!-- end -->", page)


def file_entry(name: str) -> Iterator[str]:
    """One file: its fields and an example."""
    schema = schemas.schema(name)
    yield f"<!-- schema: {name} -->"
    yield from (f"### {schema['title']}", "", sentence(schema["description"]), "")
    yield from ("| field | | meaning |", "|---|---|---|")
    for field, kind, needed, meaning in fields_of(schema):
        yield f"| `{field}` | {kind}{'' if needed else ', optional'} | {meaning} |"
    example = json.dumps(
        schema["examples"][0], indent=None if name.endswith("train_log") else 1, ensure_ascii=False
    )
    yield from (
        "",
        "<details><summary>example</summary>",
        "",
        "```json",
        example,
        "```",
        "",
        "</details>",
        "",
    )


def fields_of(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, bool, str]]:
    """(dotted name, kind, whether it must be there, meaning) of each field, those of inner objects below it."""
    for field, said in schema.get("properties", {}).items():
        needed = field in schema.get("required", ())
        inner = next((s for s in said.get("anyOf", [said]) if "properties" in s), said)
        yield f"{prefix}{field}", kind_of(said), needed, said.get("description", "").replace("|", "\\|")
        yield from fields_of(inner, f"{prefix}{field}.") if prefix.count(".") < 2 else ()


def kind_of(said: dict[str, Any]) -> str:
    """The type of a field, in a word or two."""
    if "anyOf" in said:
        return " or ".join(dict.fromkeys(kind_of(one) for one in said["anyOf"]))
    if "const" in said or "enum" in said:
        return " or ".join(f"`{one}`" for one in said.get("enum", [said.get("const")]))
    words = {"string": "text", "integer": "whole number", "array": "list", "boolean": "true or false"}
    return words.get(said.get("type", "any"), said.get("type", "any value"))


def main() -> int:
    (ROOT / "docs" / "rules.md").write_text(rules_page(), encoding="utf-8")
    layout = ROOT / "docs" / "run-directory.md"
    layout.write_text(run_directory_page(layout.read_text(encoding="utf-8")), encoding="utf-8")
    guide = ROOT / "docs" / "your-loop.md"
    guide.write_text(conventions_table(guide.read_text(encoding="utf-8")), encoding="utf-8")
    folder = ROOT / "docs" / "measured"
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    }
    halves = [found[name] for name in ("external_open", "external_held_out") if name in found]
    if halves:
        page = external_page(*halves, left_out=found.get("left_out"), peers=found.get("external_peers"))
        (ROOT / "docs" / "external.md").write_text(page, encoding="utf-8")
    else:
        print("docs/external.md not written: nothing in docs/measured", file=sys.stderr)
    if "wild" in found:
        (ROOT / "docs" / "wild.md").write_text(wild_page(found["wild"]), encoding="utf-8")
    inputs = [ROOT / "runs" / name for name in ("strength.json", "controls.json")]
    if missing := [str(path.relative_to(ROOT)) for path in inputs if not path.exists()]:
        print(
            f"docs/rules.md written; docs/strength.md not: no {', '.join(missing)} (make strength)",
            file=sys.stderr,
        )
        return 1
    measured, controls = (json.loads(path.read_text(encoding="utf-8")) for path in inputs)
    (ROOT / "docs" / "strength.md").write_text(
        strength_page(measured, controls["controls"]), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
