"""Print the verdict: a table of gates with their checks, then the controls, then the notes."""

import io
import shutil

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from gates.verdict.outcome import FAILED, NOT_OFFERED, NOT_RUN, PASSED, Verdict
from reference.rules import RULES

NARROWEST = 110  # columns


def print_verdict(verdict: Verdict, terminal: pytest.TerminalReporter) -> None:
    """As a section of pytest's summary: what failed in red, what did not run or was expected to fail in yellow."""
    terminal.section("verdict")
    for line in table(verdict, max(shutil.get_terminal_size().columns, NARROWEST)).splitlines():
        red, yellow = "FAILED" in line or "ACCEPTED" in line, "NOT RUN" in line or "EXPECTED" in line
        terminal.write_line(line, red=red, yellow=yellow)


def table(verdict: Verdict, width: int) -> str:
    """The verdict as text, `width` columns wide."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=False, color_system=None, highlight=False)
    console.print(_gates_table(verdict))
    if any(c.gate not in verdict.unasked for c in verdict.controls):
        console.print(_controls_table(verdict))
    for note in verdict.notes:
        console.print(note, soft_wrap=False)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    for rule, reason in verdict.failed_as_expected.items():
        lines.append(f"EXPECTED FAILURE {rule}: {RULES[rule].statement}; declared: {reason}")
    for rule, reason in verdict.unfulfilled.items():
        lines.append(f"FAILED {rule} holds, though it is declared not to ({reason}): remove the declaration")
    lines += [f"NOT RUN: the gate {g.name} was not asked" for g in verdict.gates if g.name in verdict.unasked]
    lines += [
        f"NOT RUN: the subject declares a command `{verb}`, and no gate asked it" for verb in verdict.unjudged
    ]
    if verdict.interrupted:
        lines.append(f"NOT RUN to the end: the session was interrupted by {verdict.interrupted}")
    lines += [f"FAILED {problem}" for problem in verdict.file_problems]
    for offer, unproved in verdict.not_offered.items():
        lines.append(f"not offered: {offer}, so unproved: {unproved}")
    count = len(verdict.failed_as_expected)
    noted = f" ({count} expected failure{'s' * (count > 1)})" if count else ""
    return "\n".join(
        [*lines, "", f"VERDICT: {verdict.overall} at level {verdict.level:d}, {verdict.level}{noted}"]
    )


def _gates_table(verdict: Verdict) -> Table:
    sheet = _sheet("gate", "verdict", "figure", "threshold", "margin")
    for g in verdict.gates:
        if g.name in verdict.unasked:
            continue
        wheres = [f"{g.name}/{check}" for check in g.checks]
        controls = [c.name for c in verdict.controls if c.gate == g.name]
        passed = sum(verdict.of_check(where) == PASSED for where in wheres)
        asked = sum(verdict.of_check(where) != NOT_OFFERED for where in wheres)
        turned_away = sum(verdict.of_control(name) == PASSED for name in controls)
        figure = f"{passed} of {asked} checks, {turned_away} of {len(controls)} controls refused"
        sheet.add_row(g.title, verdict.of_gate(g.name), figure, "", "", style="bold")
        for where in wheres:
            finding = verdict.findings.get(where)
            cells = (finding.figure, finding.threshold, finding.margin) if finding else ("", "", "")
            sheet.add_row(f"  {where.partition('/')[2]}", verdict.of_check(where), *cells)
    return sheet


def _controls_table(verdict: Verdict) -> Table:
    sheet = _sheet("negative control", "verdict", "refused because", "by")
    words = {PASSED: "refused", FAILED: "ACCEPTED", NOT_RUN: NOT_RUN}
    for c in verdict.controls:
        if c.gate in verdict.unasked:
            continue
        finding = verdict.refusals.get(c.name)
        said = "" if finding is None else finding.problem or finding.figure
        sheet.add_row(f"  {c.name}", words[verdict.of_control(c.name)], said, f"{c.gate} / {c.check}")
    return sheet


def _sheet(*columns: str) -> Table:
    """A table in which the third column gives way."""
    sheet = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(columns):
        sheet.add_column(name, overflow="fold", no_wrap=number != 2, ratio=1 if number == 2 else None)
    return sheet
