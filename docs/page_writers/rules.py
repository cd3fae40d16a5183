"""docs/rules.md, the index by family, and a page a rule in docs/rules/."""

from collections.abc import Iterator
from dataclasses import dataclass

from fixtures.mutants import MUTANTS, Mutant
from gates.verdict.definition import GATES
from gates.verdict.definition import controls as all_controls
from honestloop import conventions, run_check
from page_writers.conventions_of_rules import conventions_of
from page_writers.places import cell, link_to, rule_link, sentence
from properties.checks import all_properties
from reference.rules import RULES, Rule

UP = "../.."
"""From a rule's page to the root of the repository."""

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
    "SCALE": "Loss scaling",
    "RECOMP": "Activation checkpointing",
    "AUTO": "Autocast",
    "BPB": "Bits per byte",
    "SAMP": "The next token: probabilities, draws, decoding",
    "CORE": "Centred accuracy",
    "FLOP": "Operations and utilisation",
    "SPEED": "Speed and time left",
    "COST": "Cost",
    "PROF": "The profile of a step",
    "BEST": "The best evaluation, and early stopping",
    "EVENT": "What happens at which update",
    "AVG": "Moving averages",
    "SPIKE": "Losses out of line",
    "PROG": "Runs measured by time",
    "BATCH": "Batch, rate and decay that follow the length of a run",
    "OBJ": "Label smoothing, z-loss, soft cap",
    "CAP": "Capped logits",
    "IGN": "Ignored targets",
    "RED": "The loss of an update",
    "WIN": "Sliding-window attention",
    "COUNT": "Steps, tokens, epochs",
}


@dataclass(frozen=True)
class Around:
    """What stands around one rule in the rest of the repository."""

    checked_by: list[str]
    """Links to the properties, checks of gates and other places that hold a subject to it."""
    mutants: list[Mutant]
    """Those that it must refuse."""
    controls: list[tuple[str, str]]
    """Name and mistake of the wrong loops that its checks must refuse."""
    conventions: list[str]
    """Keys of the conventions that change what it asks for."""


def around() -> dict[str, Around]:
    """Rule -> what stands around it."""
    found = {rule: Around([], [], [], conventions_of(rule)) for rule in RULES}
    for rule in ("SUBJ-05", "SUBJ-07"):
        found[rule].checked_by.append(f"every call: {link_to('honestloop/guard', up=UP)}")
    for rule in run_check.CHECKED:
        found[rule].checked_by.append("`honestloop check-run`")
    for test, prop in all_properties().items():
        file, _, name = test.partition("::")
        for rule in prop.rules:
            found[rule].checked_by.append(f"{link_to(f'properties/{file}', up=UP)}, `{name}`")
    for gate in GATES:
        for name, rule in gate.checks.items():
            file = link_to(f"gates/test_{gate.name}.py", said=f"{gate.name} / {name}", up=UP)
            found[rule].checked_by.append(f"gate {file}")
    for mutant in MUTANTS.values():
        for rule in mutant.rules:
            found[rule].mutants.append(mutant)
    checks = {(gate.name, name): rule for gate in GATES for name, rule in gate.checks.items()}
    for control in all_controls():
        found[checks[control.gate, control.check]].controls.append((control.name, control.wrong))
    return found


def rules_index() -> str:
    """docs/rules.md. Each row has the anchor by which a rule was linked when all of them stood on one page."""
    lines = [
        "# The rules",
        "",
        "What a correct training loop satisfies, by family; each has a page that says why it matters, shows a few lines that break",
        "it and the same lines mended, and names what checks it. `honestloop explain LOOP-02` says it in a terminal.",
        "An id never changes its meaning. Written from `reference/rules.toml` by `python docs/generate.py`.",
        "",
    ]
    families: dict[str, list[Rule]] = {}
    for rule in RULES.values():
        families.setdefault(rule.family, []).append(rule)
    lines += ["## By family", ""]
    lines += [" · ".join(f"[{FAMILIES[name]}](#{slug(FAMILIES[name])})" for name in families), ""]
    for name, rules in families.items():
        lines += [f"### {FAMILIES[name]}", ""]
        lines += [f'- <a id="{rule.id.lower()}"></a>{rule_link(rule.id)} {rule.statement}' for rule in rules]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub and the site make it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def rule_pages() -> dict[str, str]:
    """File name -> text, of the page of every rule."""
    stands = around()
    return {
        f"{rule.id.lower()}.md": "\n".join(rule_page(rule, stands[rule.id])).rstrip() + "\n"
        for rule in RULES.values()
    }


def rule_page(rule: Rule, near: Around) -> Iterator[str]:
    """What it says, why, wrong and right code, where it comes from, and what stands around it."""
    family = FAMILIES[rule.family]
    yield from (f"# {rule.id}", "", f"**{sentence(rule.statement)}**", "")
    yield from (f"Family: [{family}](../rules.md#{slug(family)}).", "")
    yield from ("## Why it matters", "", sentence(rule.why), "")
    yield from ("## Breaks it", "", f"```{rule.language}", rule.wrong.strip("\n"), "```", "")
    yield from ("## Mended", "", f"```{rule.language}", rule.right.strip("\n"), "```", "")
    yield from (where_names_come_from(rule), "", f"Look for: {rule.hint}.", "")
    yield from ("## Source", "", sentence(rule.source), "")
    if near.conventions:
        yield from convention_table(near.conventions)
    yield from ("## Checked by", "", *(f"- {place}" for place in near.checked_by), "")
    if rule.needs:
        needs = ", ".join(rule_link(needed, folder="") for needed in rule.needs)
        yield from (f"Blocked, not failed, while one of these is broken: {needs}.", "")
    if near.mutants or near.controls:
        yield from refused(near)


def where_names_come_from(rule: Rule) -> str:
    """What the examples take for granted, and whether a test runs them."""
    if rule.language != "python":
        return ""
    said = "`np` is NumPy, `F` is `torch.nn.functional`; a function that is not defined here does what its name says, as in `reference/`."
    return (
        f"A test runs both: the rule refuses the first and not the second. {said}" if rule.function else said
    )


def convention_table(keys: list[str]) -> Iterator[str]:
    """What a subject may declare that changes what the rule asks for; the default first."""
    yield from ("## Conventions that change it", "")
    yield from ("| [key](../conventions.md) | values, the default first | |", "|---|---|---|")
    for key in keys:
        values = ", ".join(f"`{value}`" for value in conventions.LEGAL[key])
        yield f"| `{key}` | {values} | {cell(conventions.MEANING[key])} |"
    yield ""


def refused(near: Around) -> Iterator[str]:
    """The mistakes that it is seen to refuse."""
    yield from ("## Refuses", "")
    yield from ("| mistake | | seen in |", "|---|---|---|")
    for mutant in near.mutants:
        file = mutant.written.__module__.replace(".", "/") + ".py"
        yield f"| {cell(mutant.mistake)} | {link_to(file, said=mutant.id, up=UP)} | {cell(mutant.source)} |"
    for name, wrong in near.controls:
        file = link_to(f"fixtures/controls/{name}.py", said=name, up=UP)
        yield f"| a whole run: {cell(wrong)} | {file} | |"
    yield ""
