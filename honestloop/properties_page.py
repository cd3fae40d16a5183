"""The page of a grading by the properties, from what was graded."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from honestloop.atomic_write import write_atomically
from honestloop.here_and_now import machine_name, started_at
from pages.properties import page
from properties.grading import Grading, Outcome, Status
from reference.rules import RULES

Results = Sequence[tuple[str, Outcome]]


def write(
    path: Path, grading: Grading, profile: str, results: Results, complaints: Iterable[str] = ()
) -> None:
    """Write the page, whole or not at all; its folder is made if need be. OSError if that is impossible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = {rule.id: rule.texts for rule in RULES.values()}
    write_atomically(path, page(report(grading, profile, results, complaints), texts))


def report(
    grading: Grading, profile: str, results: Results, complaints: Iterable[str] = ()
) -> dict[str, Any]:
    """What the page shows, as JSON has it; `results` are (test, outcome) in the order in which they came."""
    missing = {
        name
        for _, outcome in results
        if outcome.status == Status.NOT_OFFERED
        for name in outcome.text.removeprefix(f"{Status.NOT_OFFERED}: ").split(", ")
    }
    asked = [rule for rule in RULES if grading.status_of(rule) is not None]
    return {
        "subject": grading.subject.name,
        "profile": profile,
        "started_at": started_at(),
        "machine": machine_name(),
        "summary": grading.summary(),
        "complaints": list(complaints),
        "not_offered": sorted(missing),
        "rules": [_rule(grading, rule, results) for rule in asked],
    }


def _rule(grading: Grading, rule: str, results: Results) -> dict[str, Any]:
    status = grading.status_of(rule)
    reasons = (grading.missing, grading.expected_seen, grading.blocked, grading.not_offered)
    return {
        "rule": rule,
        "status": str(status),
        "statement": RULES[rule].statement,
        "examples": grading.executed[rule],
        "margins": {dtype: ratio for (name, dtype), ratio in sorted(grading.margins.items()) if name == rule},
        "reason": next((said[rule] for said in reasons if rule in said), None),
        "failures": [
            _failure(test, outcome)
            for test, outcome in results
            if outcome.status == Status.BROKEN and rule in outcome.rules
        ],
    }


def _failure(test: str, outcome: Outcome) -> dict[str, Any]:
    refusal = outcome.refusal
    if refusal is None:
        return {"test": test, "text": outcome.text}
    return {
        "test": test,
        "text": outcome.text,
        "found": list(refusal.found),
        "behaves_like": list(refusal.behaves_like),
        "snippet": list(refusal.snippet),
        "reproduce": refusal.reproduce,
    }
