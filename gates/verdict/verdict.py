"""The verdict: every finding held against the definition of done; as a table, as JSON, as a badge.

A check is PASSED, FAILED or NOT RUN, which is not a pass. The whole is PASSED only if every check of every gate passed,
every control was refused for its own fault, and no test of a gate was skipped or broke.
"""

import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gates.verdict.definition import CONTROLS, GATES, Control, control
from gates.verdict.finding import Finding

PASSED, FAILED, NOT_RUN, INCOMPLETE = "PASSED", "FAILED", "NOT RUN", "INCOMPLETE"
SCHEMA, CONTROLS_SCHEMA = "honestloop/verdict/v1", "honestloop/controls/v1"
COLOURS = {PASSED: "brightgreen", FAILED: "red", INCOMPLETE: "yellow"}
HEX = {"brightgreen": "#44cc11", "red": "#e05d44", "yellow": "#dfb317"}


@dataclass
class Verdict:
    """Collects what the tests find. Names are those of the definition; a finding outside it is an error."""

    subject: str
    findings: dict[str, Finding] = field(default_factory=dict)  # "gate/check" -> what was found
    refusals: dict[str, Finding] = field(default_factory=dict)  # control -> the finding that must refuse it
    broken: dict[str, list[str]] = field(
        default_factory=dict
    )  # gate -> tests that failed, broke or were skipped
    notes: list[str] = field(default_factory=list)  # printed, not gated
    facts: dict[str, Any] = field(default_factory=dict)  # seeds and places, for whoever repeats the run
    all_controls: bool = (
        False  # whether every control must be refused, or only the selection of every session
    )

    @property
    def controls(self) -> list[Control]:
        """The controls that this session must refuse."""
        return [c for c in CONTROLS if c.always or self.all_controls]

    def record(self, finding: Finding) -> None:
        """Keep a finding about the subject. KeyError if the definition knows no such check."""
        if finding.check not in {g.name: g for g in GATES}[finding.gate].checks:
            raise KeyError(f"{finding.where} is not in gates/verdict/definition.py")
        self.findings[finding.where] = finding

    def record_control(self, name: str, finding: Finding) -> None:
        """Keep the finding about a negative control."""
        self.refusals[name] = finding

    def record_broken(self, gate: str, test: str) -> None:
        """Remember a test of a gate that did not pass, so that its gate cannot."""
        self.broken.setdefault(gate, []).append(test)

    def of_check(self, where: str) -> str:
        """PASSED, FAILED or NOT RUN."""
        finding = self.findings.get(where)
        return NOT_RUN if finding is None else PASSED if finding.passed else FAILED

    def of_control(self, name: str) -> str:
        """PASSED (refused for the stated reason), FAILED (accepted, or refused for another one) or NOT RUN."""
        finding = self.refusals.get(name)
        if finding is None:
            return NOT_RUN
        return PASSED if refused(name, finding) else FAILED

    def of_gate(self, name: str) -> str:
        """FAILED if anything in it failed, else NOT RUN if anything in it is missing, else PASSED."""
        parts = [self.of_check(f"{name}/{check}") for g in GATES if g.name == name for check in g.checks]
        parts += [self.of_control(c.name) for c in self.controls if c.gate == name]
        if FAILED in parts or name in self.broken:
            return FAILED
        return NOT_RUN if NOT_RUN in parts else PASSED

    @property
    def overall(self) -> str:
        """PASSED, FAILED or INCOMPLETE."""
        parts = [self.of_gate(g.name) for g in GATES]
        if FAILED in parts:
            return FAILED
        return INCOMPLETE if NOT_RUN in parts else PASSED

    def as_dict(self) -> dict[str, Any]:
        """verdict.json."""
        return {
            "schema": SCHEMA,
            "subject": self.subject,
            "verdict": self.overall,
            "gates": [
                {
                    "gate": g.name,
                    "verdict": self.of_gate(g.name),
                    "checks": [
                        {
                            "check": check,
                            "establishes": asked.establishes,
                            "rule": asked.rule,
                            "verdict": self.of_check(f"{g.name}/{check}"),
                            **_facts(self.findings.get(f"{g.name}/{check}")),
                        }
                        for check, asked in g.checks.items()
                    ],
                    "broken_tests": self.broken.get(g.name, []),
                }
                for g in GATES
            ],
            "controls": [
                {
                    "control": c.name,
                    "wrong": c.wrong,
                    "gate": c.gate,
                    "must_be_refused_by": c.check,
                    "verdict": self.of_control(c.name),
                    **_facts(self.refusals.get(c.name)),
                }
                for c in self.controls
            ],
            "controls_left_out": len(CONTROLS) - len(self.controls),
            "notes": self.notes,
            **self.facts,
        }


def refused(name: str, finding: Finding) -> bool:
    """Whether the control was turned away, by the check that must do it, and for the reason that it is wrong."""
    expected = control(name)
    right_check = finding.where == f"{expected.gate}/{expected.check}"
    return right_check and not finding.passed and expected.because in finding.message


def table(verdict: Verdict, width: int) -> str:
    """The verdict as text, `width` columns wide: gates with their checks, then the controls, then the notes."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=False, color_system=None, highlight=False)
    console.print(_gates_table(verdict))
    console.print(_controls_table(verdict))
    for note in verdict.notes:
        console.print(note, soft_wrap=False)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([*lines, "", f"VERDICT: {verdict.overall}"])


def _gates_table(verdict: Verdict) -> Table:
    sheet = _sheet("gate", "verdict", "figure", "threshold", "margin")
    for g in GATES:
        wheres = [f"{g.name}/{check}" for check in g.checks]
        controls = [c.name for c in verdict.controls if c.gate == g.name]
        passed = sum(verdict.of_check(where) == PASSED for where in wheres)
        turned_away = sum(verdict.of_control(name) == PASSED for name in controls)
        figure = f"{passed} of {len(wheres)} checks, {turned_away} of {len(controls)} controls refused"
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


def badge(verdict: Verdict) -> dict[str, Any]:
    """A badge in the format of a shields.io endpoint. It is green if every gate ran and passed, and only then."""
    passed = sum(verdict.of_gate(g.name) == PASSED for g in GATES)
    colour = COLOURS[verdict.overall]
    word = verdict.overall.lower() if verdict.overall != PASSED else "gates passed"
    return {
        "schemaVersion": 1,
        "label": "honestloop" if verdict.subject == "impl" else f"honestloop: {verdict.subject}",
        "message": f"{passed}/{len(GATES)} {word}",
        "color": colour,
    }


def badge_svg(content: dict[str, Any]) -> str:
    """The same badge as an image, in the flat style; text widths are estimated at 6.5 px a character."""
    left, right = (round(10 + 6.5 * len(content[part])) for part in ("label", "message"))
    label, message = escape(content["label"]), escape(content["message"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{label}: {message}"><title>{label}: {message}</title>'
        f'<rect width="{left}" height="20" fill="#555"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{HEX[content["color"]]}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2}" y="14">{label}</text><text x="{left + right / 2}" y="14">{message}</text></g></svg>\n'
    )


def write(verdict: Verdict, directory: Path) -> None:
    """verdict.json, badge.json and badge.svg, each whole or not at all. A verdict always replaces the one before."""
    content = badge(verdict)
    directory.mkdir(parents=True, exist_ok=True)
    _atomic_write(
        directory / "verdict.json", json.dumps(verdict.as_dict(), indent=2, ensure_ascii=False) + "\n"
    )
    _atomic_write(directory / "badge.json", json.dumps(content) + "\n")
    _atomic_write(directory / "badge.svg", badge_svg(content))


def write_controls(verdict: Verdict, directory: Path) -> None:
    """controls.json: what became of every negative control, with the rows of the bug catalogue that it stands for."""
    seconds = verdict.facts.get("seconds", {})
    told = [
        {
            "control": c.name,
            "wrong": c.wrong,
            "bugs": list(c.bugs),
            "gate": c.gate,
            "check": c.check,
            "rule": {g.name: g for g in GATES}[c.gate].checks[c.check].rule,
            "always": c.always,
            "refused": verdict.of_control(c.name) == PASSED,
            "by": finding.where if (finding := verdict.refusals.get(c.name)) and not finding.passed else None,
            "because": finding.problem if finding else None,
            "seconds": seconds.get(f"control/{c.name}"),
        }
        for c in verdict.controls
    ]
    content = {"schema": CONTROLS_SCHEMA, "subject": "impl", "controls": told}
    _atomic_write(directory / "controls.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def gate_of(test_file: str) -> str | None:
    """The gate that a test file belongs to, if any: `test_resume.py` -> "resume"."""
    name = Path(test_file).stem.removeprefix("test_")
    return name if name in _names() else None


def _names() -> Iterable[str]:
    return [g.name for g in GATES]


def _facts(finding: Finding | None) -> dict[str, str]:
    if finding is None:
        return {}
    facts = {"figure": finding.figure, "threshold": finding.threshold, "margin": finding.margin}
    return facts if finding.passed else {**facts, "message": finding.message}


def _atomic_write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
