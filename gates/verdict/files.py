"""The verdict as files: verdict.json, its page and report, controls.json, the badge, each whole or not at all."""

import json
import math
from pathlib import Path
from typing import Any

from fixtures.controls.shared.table import Control
from gates.verdict import phase_report
from gates.verdict.badge import badge, badge_svg
from gates.verdict.definition import controls, rule_of
from gates.verdict.finding import Finding
from gates.verdict.outcome import PASSED, Verdict
from honestloop.atomic_write import write_atomically
from honestloop.description import Level
from honestloop.guarded_files import UnreadableError, read_regular
from pages.run_data import RunData
from pages.verdict import page
from reference.rules import RULES

PAGE = "verdict.html"
RULE_TEXTS = {rule.id: rule.texts for rule in RULES.values()}
SCHEMA, CONTROLS_SCHEMA = "honestloop/verdict/v1", "honestloop/controls/v1"


def write(verdict: Verdict, directory: Path, run: RunData | None = None) -> dict[Path, str]:
    """verdict.json, verdict.html and the badge, each whole or not at all. A verdict always replaces the one before.

    `run`: the run that was judged, which the page shows. What each file then says, for `changed`. OSError if that is
    impossible.
    """
    content, facts = badge(verdict), as_dict(verdict)
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    said = {
        # Half a surrogate pair in a subject's text is no UTF-8; as an escape it is JSON.
        directory / "verdict.json": text.encode("utf-8", "backslashreplace").decode(),
        directory / "badge.json": json.dumps(content) + "\n",
        directory / "badge.svg": badge_svg(content),
        directory / PAGE: page(facts, run, RULE_TEXTS),
    }
    if verdict.level == Level.PHASE_18:
        said[directory / phase_report.NAME] = phase_report.report(facts, run)
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in said.items():
        write_atomically(path, text)
    return said


def changed(said: dict[Path, str]) -> list[str]:
    """One line for each file that does not say any more what it was told to: somebody else wrote to it."""
    problems = []
    for path, text in said.items():
        try:
            found = read_regular(path).decode("utf-8", "replace")
        except UnreadableError as error:
            problems.append(
                f"GATE verdict / {path.name}: got {error.found}, expected the verdict of this session"
            )
            continue
        if found != text:
            got = f"other {len(found):,} characters, written by somebody else"
            problems.append(f"GATE verdict / {path.name}: got {got}, expected the verdict of this session")
    return problems


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
            "rule": rule_of(f"{c.gate}/{c.check}"),
            "always": c.always,
            "refused": verdict.of_control(c.name) == PASSED,
            "by": finding.where if (finding := verdict.refusals.get(c.name)) and not finding.passed else None,
            "because": finding.problem if finding else None,
            "seconds": seconds.get(f"control/{c.name}"),
        }
        for c in verdict.controls
    ]
    content = {"schema": CONTROLS_SCHEMA, "subject": "impl", "controls": told}
    write_atomically(directory / "controls.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """The content of verdict.json."""
    return {
        "schema": SCHEMA,
        "subject": verdict.subject,
        "verdict": verdict.overall,
        "interrupted": verdict.interrupted,
        "file_problems": verdict.file_problems,
        "level": {"number": int(verdict.level), "name": str(verdict.level)},
        "not_offered": verdict.not_offered,
        "declared_and_not_asked": list(verdict.unjudged),
        "expected_failures": verdict.failed_as_expected,
        "expected_and_held": verdict.unfulfilled,
        "gates": [
            {
                "gate": g.name,
                "title": g.title,
                "verdict": verdict.of_gate(g.name),
                "checks": [
                    {
                        "check": check,
                        "rule": rule,
                        "statement": RULES[rule].statement,
                        "verdict": verdict.of_check(f"{g.name}/{check}"),
                        **_facts(verdict.findings.get(f"{g.name}/{check}")),
                    }
                    for check, rule in g.checks.items()
                ],
                "broken_tests": verdict.broken.get(g.name, []),
                "broken_because": list(verdict.broken_because.get(g.name, ())),
            }
            for g in verdict.gates
        ],
        "controls": [
            {
                "control": c.name,
                "wrong": c.wrong,
                "gate": c.gate,
                "must_be_refused_by": c.check,
                "verdict": verdict.of_control(c.name),
                **_facts(verdict.refusals.get(c.name)),
            }
            for c in verdict.controls
        ],
        "controls_left_out": len(controls_at(verdict)) - len(verdict.controls),
        "notes": verdict.notes,
        **verdict.facts,
    }


def controls_at(verdict: Verdict) -> list[Control]:
    """Every control of the gates that are asked, tried in this session or not."""
    names = {g.name for g in verdict.gates}
    return [c for c in controls() if c.gate in names]


def _facts(finding: Finding | None) -> dict[str, Any]:
    if finding is None:
        return {}
    facts: dict[str, Any] = {
        "figure": finding.figure,
        "threshold": finding.threshold,
        "margin": finding.margin,
    }
    if finding.share is not None and math.isfinite(finding.share):
        facts["share"] = float(finding.share)
    if finding.passed:
        return facts
    said = {"problem": finding.problem, "got": finding.got, "expected": finding.expected}
    return {**facts, **said, "message": finding.message}
