"""docs/external.md, how faults that others collected fare, and docs/external-tables.md, a row for each."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fixtures.external import ALIASES, EXTERNAL, SOURCES, Alias, External
from fixtures.external.answer import Verdict
from page_writers.places import ROOT


def external_page(
    *halves: dict[str, Any], left_out: dict[str, Any] | None = None, peers: dict[str, Any] | None = None
) -> str:
    """docs/external.md, of what the command measured of one half of the table or of each.

    `left_out`: what the diagnosis said of mutants that its table lacked; `peers`: what other tools said.
    """
    parts = [
        external_introduction(halves),
        *(external_summary(half) for half in halves),
        left_out_summary(left_out) if left_out else (),
        external_counts(by_fault(halves), not_expressible()),
        external_peers(peers) if peers else (),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def external_tables(*halves: dict[str, Any]) -> str:
    """docs/external-tables.md, a row for each fault of the same measurement, and what could not be written."""
    parts = [tables_introduction(), external_table(by_fault(halves)), external_left(not_expressible())]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def by_fault(halves: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Fault -> its results, one a seed."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for result in (result for half in halves for result in half["results"]):
        runs.setdefault(result["fault"], []).append(result)
    return runs


def not_expressible() -> dict[str, Any]:
    """What each collection has that the protocol cannot say."""
    path = ROOT / "fixtures" / "external" / "not_expressible.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def tables_introduction() -> Iterator[str]:
    """What is on the page."""
    yield from ("# Faults that others collected: every row", "")
    yield "What is counted in [faults that others collected](external.md), and the commands that measure it are there: a row for"
    yield "[each fault](#the-faults), and for [what cannot be written](#what-cannot-be-written)."
    yield ""


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
    yield "would see of it. And what cannot be written for the protocol is [listed](external-tables.md#what-cannot-be-written): no figure speaks of it."
    yield ""
    yield "The right answer for each fault (a name, a number, a place in the chain from rows to parameters) was committed beside it"
    yield "before any was run. Half of the faults, by SHA-256 of the id, are held out until the diagnosis is finished. *Right*: it names a"
    yield "mistake whose words are true of the fault, alone or with others that it cannot tell apart, or the convention that explains it."
    yield "*Localised*: the place or the number is right. *Silent*: it says nothing. *Wrong*: it says something else."
    yield ""
    yield "```sh"
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
        "```sh",
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
    yield "```sh"
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
