"""The verdict as files: verdict.json, controls.json and the badge, each whole or not at all."""

import json
from pathlib import Path
from typing import Any

from fixtures.controls.shared.table import Control
from gates.verdict.badge import badge, badge_svg
from gates.verdict.definition import controls, rule_of
from gates.verdict.finding import Finding
from gates.verdict.outcome import PASSED, Verdict
from honestloop.atomic_write import write_atomically
from reference.rules import RULES

SCHEMA, CONTROLS_SCHEMA = "honestloop/verdict/v1", "honestloop/controls/v1"


def write(verdict: Verdict, directory: Path) -> None:
    """verdict.json, badge.json and badge.svg, each whole or not at all. A verdict always replaces the one before."""
    content = badge(verdict)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(
        directory / "verdict.json", json.dumps(as_dict(verdict), indent=2, ensure_ascii=False) + "\n"
    )
    write_atomically(directory / "badge.json", json.dumps(content) + "\n")
    write_atomically(directory / "badge.svg", badge_svg(content))


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
        "level": {"number": int(verdict.level), "name": str(verdict.level)},
        "not_offered": dict(verdict.not_offered),
        "declared_and_not_asked": list(verdict.unjudged),
        "expected_failures": verdict.failed_as_expected,
        "expected_and_held": verdict.unfulfilled,
        "gates": [
            {
                "gate": g.name,
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


def _facts(finding: Finding | None) -> dict[str, str]:
    if finding is None:
        return {}
    facts = {"figure": finding.figure, "threshold": finding.threshold, "margin": finding.margin}
    return facts if finding.passed else {**facts, "message": finding.message}
