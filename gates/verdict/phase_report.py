"""PHASE_18_REPORT.md: what a phase-18 verdict found, for people, drawn from the verdict and from the run it judged."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pages.numbers import is_number, plain
from pages.run_data import RunData, dig, entries

NAME = "PHASE_18_REPORT.md"
NOT_SHOWN = "not shown"
SECTIONS = {"resume": "Resume", "drift": "Drift"}
"""Gate -> the title of its section."""


def report(verdict: Mapping[str, Any], run: RunData | None) -> str:
    """The report in Markdown; `verdict` is what verdict.json holds. What a subject wrote is escaped."""
    told = run or RunData("no run")
    parts = [
        f"# Phase 18: {cell(verdict['verdict'])}",
        f"Subject `{code(verdict['subject'])}`, judged by `honestloop grade`. Each number of the run is the run's own; "
        "a gate that PASSED has recomputed what it names.",
        section("The run", table(("what", "value"), the_run(told))),
        section("Perplexities and baseline", table(("what", "value"), perplexities(told))),
        *(section(title, checks_of(verdict, gate)) for gate, title in SECTIONS.items()),
        section("Drift of each layer", table(("format", "layer", "relative error"), drift(told))),
        section("Gates", table(("gate", "verdict", "checks"), gates(verdict))),
        section("What was not shown", listed(list(not_shown(verdict, run)))),
    ]
    return "\n\n".join(parts) + "\n"


def the_run(run: RunData) -> Iterator[tuple[Any, ...]]:
    """Its identity, where it is tracked, how it was made."""
    yield "directory", run.name
    for name in ("run_id", "seed", "git.sha", "git.dirty", "started_at", "n_parameters", "loss_reduction"):
        yield name, dig(run.manifest, *name.split("."))
    yield "updates", dig(run.results, "steps")
    yield "MLflow URI", dig(run.results, "mlflow", "uri")
    yield "MLflow run", dig(run.results, "mlflow", "run_id")


def perplexities(run: RunData) -> Iterator[tuple[Any, ...]]:
    """Of the splits and of the strongest n-gram, and their ratio."""
    for split in ("train", "val", "test"):
        yield f"perplexity of {split}", dig(run.results, "perplexity", split, "ppl")
    baseline = dig(run.results, "strongest_baseline") or {}
    yield "strongest n-gram", f"{dig(baseline, 'kind')}, n = {dig(baseline, 'n')}" if baseline else None
    yield "its perplexity of val", dig(baseline, "val", "ppl")
    yield "ratio", dig(run.results, "ratio")


def drift(run: RunData) -> Iterator[tuple[Any, ...]]:
    """The relative error of each layer in each format."""
    for name, told in (dig(run.drift, "formats") or {}).items():
        for layer, error in (dig(told, "relative_error") or {}).items():
            yield name, layer, error


def checks_of(verdict: Mapping[str, Any], gate: str) -> str:
    """The checks of a gate as a table."""
    return table(("check", "verdict", "found"), checks(verdict, gate))


def checks(verdict: Mapping[str, Any], gate: str) -> Iterator[tuple[Any, ...]]:
    """(check, verdict, figure) of a gate, with the problem where there is one."""
    for one in entries(verdict.get("gates")):
        if one.get("gate") == gate:
            for check in entries(one.get("checks")):
                yield check.get("check"), check.get("verdict"), check.get("problem") or check.get("figure")


def gates(verdict: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """(gate, verdict, how many of its checks passed)."""
    for gate in entries(verdict.get("gates")):
        of = entries(gate.get("checks"))
        passed = sum(check.get("verdict") == "PASSED" for check in of)
        yield gate.get("gate"), gate.get("verdict"), f"{passed} of {len(of)} passed"


def not_shown(verdict: Mapping[str, Any], run: RunData | None) -> Iterator[str]:
    """Every check that did not run, what the subject did not offer, controls that were not tried."""
    if run is None:
        yield "No run was judged."
    for gate in entries(verdict.get("gates")):
        for check in entries(gate.get("checks")):
            if check.get("verdict") in ("NOT RUN", "NOT OFFERED"):
                yield f"{gate.get('gate')}/{check.get('check')}: {check['verdict'].lower()}"
    for name, why in dict(verdict.get("not_offered") or {}).items():
        yield f"{name}: {why}"
    for rule, why in dict(verdict.get("expected_failures") or {}).items():
        yield f"{rule} does not hold, as declared: {why}"
    if left := verdict.get("controls_left_out"):
        yield f"{left} wrong loops were not tried in this session"
    yield from (run.absent if run else ())


def section(title: str, body: str) -> str:
    """A heading and what is below it."""
    return f"## {title}\n\n{body}"


def table(head: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> str:
    """A Markdown table; a value that is not there is said to be."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(cell, row)) + " |" for row in rows)])


def listed(lines: Sequence[str]) -> str:
    """A list; "Nothing." for an empty one."""
    return "\n".join(f"- {cell(line)}" for line in lines) or "Nothing."


def cell(value: Any) -> str:
    """A value on one line, with what Markdown and HTML would read in it escaped."""
    if value is None:
        return NOT_SHOWN
    text = plain(value, 6) if is_number(value) else " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)


def code(value: Any) -> str:
    """A value between backticks."""
    return " ".join(str(value).replace("`", "'").split())
