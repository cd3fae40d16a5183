"""Print the verdict as wide as the terminal is: a line a gate, what failed, what was not asked; with -v, every check.

Words say it, colours repeat it: red what failed, yellow what did not run or was expected to fail, green what passed.
"""

import io
import textwrap
from collections.abc import Callable, Iterator

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from gates.verdict.outcome import FAILED, NOT_OFFERED, NOT_RUN, PASSED, Verdict
from reference.rules import RULES

WIDE = 110
"""Columns from which on a check's threshold and margin have room beside what was found."""
MARGINS = (
    "margin: `3x inside` is a third of the bound, `3x` alone is three times the bound; `+0.1` is that far below the "
    "limit; `exact` is equal in every bit."
)
RED, YELLOW = ("FAILED", "ACCEPTED"), ("NOT RUN", "EXPECTED", "INCOMPLETE")


def print_verdict(verdict: Verdict, terminal: pytest.TerminalReporter) -> None:
    """As a section of pytest's summary, as wide as pytest's own."""
    terminal.section("verdict")
    verbose = terminal.verbosity > 0
    for line in text(verdict, terminal._tw.fullwidth, verbose=verbose).splitlines():
        red, yellow = (any(word in line for word in words) for words in (RED, YELLOW))
        terminal.write_line(line, red=red, yellow=yellow and not red)


def progress_of(config: pytest.Config) -> Callable[[str], None]:
    """Prints how far the runs are, on a terminal that would else be silent: until the first test is over."""
    terminal, capture = (
        config.pluginmanager.get_plugin(name) for name in ("terminalreporter", "capturemanager")
    )
    if not (terminal and capture and terminal.isatty):
        return lambda _: None

    def tell(line: str) -> None:
        if not any(terminal.stats.get(word) for word in ("passed", "failed", "error", "skipped")):
            with capture.global_and_fixture_disabled():
                terminal.ensure_newline()
                terminal.write_line(line)

    return tell


def print_summary(verdict: Verdict, config: pytest.Config, page: str = "") -> None:
    """The last line of all, below pytest's own."""
    if terminal := config.pluginmanager.get_plugin("terminalreporter"):
        word = verdict.overall
        colour = {PASSED: "green", FAILED: "red"}.get(word, "yellow")
        terminal.write_line(summary(verdict, page), bold=True, **{colour: True})


def text(verdict: Verdict, width: int, *, verbose: bool) -> str:
    """The verdict, no line longer than `width` columns but names that are."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False, color_system=None, highlight=False)
    console.print(_gates_table(verdict, width, verbose=verbose))
    if verbose and any(c.gate not in verdict.unasked for c in verdict.controls):
        console.print(_controls_table(verdict))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    said = [
        *([MARGINS] if verbose and width >= WIDE else []),
        *verdict.notes,
        *_remarks(verdict, verbose=verbose),
    ]
    for paragraph in said:
        for line in paragraph.splitlines():
            lines += textwrap.wrap(
                line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
    return "\n".join(lines)


def summary(verdict: Verdict, page: str = "") -> str:
    """The last line: the subject, the word, why it is no other, the level, and where to read on."""
    of = {
        word: [g.name for g in verdict.gates if verdict.of_gate(g.name) == word] for word in (FAILED, NOT_RUN)
    }
    asked = [g.name for g in verdict.gates if g.name not in verdict.unasked]
    said = {
        PASSED: f"PASSED {len(asked)} of {len(verdict.gates)} gates",
        FAILED: f"FAILED {len(of[FAILED])} of {len(asked)} gates{_named(_why_failed(verdict) or of[FAILED])}",
    }.get(
        verdict.overall,
        f"INCOMPLETE, {len(of[NOT_RUN])} of {len(verdict.gates)} gates not run{_named(of[NOT_RUN])}",
    )
    count = len(verdict.failed_as_expected)
    expected = f", {count} expected failure{'s' * (count > 1)}" if count else ""
    where = f" -> {page}" if page else ""
    return (
        f"honestloop: {verdict.subject} {said}{expected} at level {verdict.level:d}, {verdict.level}{where}"
    )


def _why_failed(verdict: Verdict) -> list[str]:
    """Failed checks, declared failures that did not happen, and the verdict's own files."""
    wheres = [f"{g.name}/{check}" for g in verdict.gates for check in g.checks]
    failed = [where for where in wheres if verdict.of_check(where) == FAILED]
    return [*failed, *verdict.unfulfilled, *(["verdict/files"] if verdict.file_problems else [])]


def _named(names: list[str], shown: int = 3) -> str:
    """In brackets, the first few of them."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f" ({', '.join(names[:shown])}{more})" if names else ""


def _gates_table(verdict: Verdict, width: int, *, verbose: bool) -> Table:
    """A row a gate; below it every check if `verbose`, else those that did not pass."""
    beside = verbose and width >= WIDE
    sheet = _sheet("gate", "verdict", "found", *(("threshold", "margin") if beside else ()))
    for g in verdict.gates:
        if g.name in verdict.unasked:
            continue
        wheres = [f"{g.name}/{check}" for check in g.checks]
        sheet.add_row(g.title, verdict.of_gate(g.name), _counts(verdict, g.name, wheres), style="bold")
        for where in wheres:
            word, finding = verdict.of_check(where), verdict.findings.get(where)
            if not verbose and word in (PASSED, NOT_OFFERED):
                continue
            found = finding.figure if finding else ""
            if finding and not finding.passed and not finding.unproved:
                found = f"{finding.problem}; got {finding.got}, expected {finding.expected}"
            cells = (finding.threshold, finding.margin) if finding and beside else ()
            sheet.add_row(f"  {where.partition('/')[2]}", word, found, *cells)
    return sheet


def _counts(verdict: Verdict, gate: str, wheres: list[str]) -> str:
    """How many checks of a gate passed, and how many of its controls were refused."""
    controls = [c.name for c in verdict.controls if c.gate == gate]
    passed = sum(verdict.of_check(where) == PASSED for where in wheres)
    asked = sum(verdict.of_check(where) != NOT_OFFERED for where in wheres)
    refused = sum(verdict.of_control(name) == PASSED for name in controls)
    return f"{passed} of {asked} checks" + (
        f", {refused} of {len(controls)} controls refused" if controls else ""
    )


def _controls_table(verdict: Verdict) -> Table:
    sheet = _sheet("negative control", "verdict", "refused because", "by")
    words = {PASSED: "refused", FAILED: "ACCEPTED", NOT_RUN: NOT_RUN}
    for c in verdict.controls:
        if c.gate in verdict.unasked:
            continue
        finding = verdict.refusals.get(c.name)
        said = "" if finding is None else finding.problem or finding.figure
        sheet.add_row(f"  {c.name}", words[verdict.of_control(c.name)], said, f"{c.gate}/{c.check}")
    return sheet


def _sheet(*columns: str) -> Table:
    """A table in which the third column gives way."""
    sheet = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(columns):
        sheet.add_column(name, overflow="fold", no_wrap=number < 2, ratio=1 if number == 2 else None)
    return sheet


def _remarks(verdict: Verdict, *, verbose: bool) -> Iterator[str]:
    """What is to be known beside the table: what did not run, was expected to fail, or cannot be said."""
    if not verbose:
        for c in verdict.controls:
            if c.gate not in verdict.unasked and (word := verdict.of_control(c.name)) != PASSED:
                said = "NOT RUN" if word == NOT_RUN else "ACCEPTED, though it is wrong"
                yield f"{said}: the control {c.name} of {c.gate}/{c.check} ({c.wrong})"
    for rule, reason in verdict.failed_as_expected.items():
        yield f"EXPECTED FAILURE {rule}: {RULES[rule].statement}; declared: {reason}"
    for rule, reason in verdict.unfulfilled.items():
        yield f"FAILED {rule} holds, though it is declared not to ({reason}): remove the declaration"
    if unasked := [g.name for g in verdict.gates if g.name in verdict.unasked]:
        yield f"NOT RUN: {', '.join(unasked)}, which were not asked"
    for verb in verdict.unjudged:
        yield f"NOT RUN: the subject declares a command `{verb}`, and no gate asked it"
    if verdict.interrupted:
        yield f"NOT RUN to the end: the session was interrupted by {verdict.interrupted}"
    for problem in verdict.file_problems:
        yield f"FAILED {problem}"
    for offer, unproved in verdict.not_offered.items():
        yield f"not offered: {offer}, so unproved: {unproved}"
    if not verbose:
        yield "every check, its threshold and its margin: -v"
