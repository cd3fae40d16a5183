"""docs/strength.md, what measuring the suite by its own mistakes says, and docs/strength-tables.md, a row for each."""

import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

from fixtures.mutants import MUTANTS
from gates.verdict.definition import controls as all_controls
from page_writers.places import ROOT, rule_link
from properties.checks import all_properties
from reference.rules import RULES


def strength_page(measured: dict[str, Any], controls: list[dict[str, Any]]) -> str:
    """docs/strength.md."""
    return "\n".join(summary(measured, controls)).rstrip() + "\n"


def strength_tables(measured: dict[str, Any], controls: list[dict[str, Any]]) -> str:
    """docs/strength-tables.md."""
    parts = [
        tables_introduction(),
        rules_table(measured),
        mutant_table(measured),
        control_table(controls),
        catalogue(),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def tables_introduction() -> Iterator[str]:
    """What is on the page."""
    yield from ("# How strong the suite is: every row", "")
    yield "What is counted in [how strong the suite is](strength.md): [margins](#margins) by rule, [mutants](#mutants),"
    yield "[wrong loops](#wrong-loops), and [the catalogue of real bugs](#the-catalogue-of-real-bugs) that they stand for."
    yield ""


def summary(measured: dict[str, Any], controls: list[dict[str, Any]]) -> Iterator[str]:
    """What mutants and wrong loops are, what counting them is worth, and the counts."""
    seconds = sorted(first_kill(result) for result in measured["results"])
    refused = sum(bool(control["refused"]) for control in controls)
    share = 100.0 * measured["diagnosed"] / measured["mutants"]
    yield from ("# How strong the suite is", "")
    yield "A *mutant* is a correct implementation with one mistake in one function (`fixtures/mutants/`); a *wrong loop* is a"
    yield "whole training run with one mistake (`fixtures/controls/`). `make strength` measures all of this anew and writes"
    yield "this page and [its tables](strength-tables.md)."
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
    yield "Every mutant, wrong loop and margin has a row in [the tables](strength-tables.md)."
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
        yield f"| {rule_link(rule)} | {' | '.join(cells)} | {least} | {len(refused)} |"
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
