"""The verdict: every finding of a session, held against the definition of done.

A check is PASSED, FAILED, NOT RUN, which is not a pass, an EXPECTED FAILURE, which the subject declares and the
verdict shows, or NOT OFFERED, where the subject has no such thing to judge; then the verdict says what that leaves
unproved. The whole is PASSED only if every check of every gate passed, failed as declared or was not offered, every
control was refused for its own fault, and no test of a gate was skipped or broke.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fixtures.controls.shared.table import Control
from gates.verdict.definition import Gate, control, controls, gates_of, rule_of
from gates.verdict.finding import Finding
from honestloop.description import Level

PASSED, FAILED, NOT_RUN, INCOMPLETE = "PASSED", "FAILED", "NOT RUN", "INCOMPLETE"
EXPECTED, NOT_OFFERED = "EXPECTED FAILURE", "NOT OFFERED"


@dataclass
class Verdict:
    """Collects what the tests find. Names are those of the definition; a finding outside it is an error."""

    subject: str
    findings: dict[str, Finding] = field(default_factory=dict)  # "gate/check" -> what was found
    refusals: dict[str, Finding] = field(default_factory=dict)  # control -> the finding that must refuse it
    broken: dict[str, list[str]] = field(default_factory=dict)
    """Gate -> tests that failed, broke or were skipped."""
    broken_because: dict[str, dict[str, None]] = field(default_factory=dict)
    """Gate -> what they said, each thing once."""
    notes: list[str] = field(default_factory=list)  # printed, not gated
    facts: dict[str, Any] = field(default_factory=dict)
    """Seeds and places, with which the session can be repeated."""
    all_controls: bool = False
    """Whether every control must be refused, or only the selection of every session."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """Rule -> reason, of the rules that the subject declares not to keep."""
    level: Level = Level.PHASE_18
    adapter: bool = True
    """Whether there are functions for the properties to grade."""
    own_generator: bool = False
    """Whether its masks and orders are declared, not those of the specification."""
    not_handed_over: Mapping[str, str] = field(default_factory=dict)
    """What the subject's description does not offer -> what that leaves unproved."""
    left_out: frozenset[str] = frozenset()
    """Checks, "gate/check", that need what the subject does not hand over."""
    unasked: frozenset[str] = frozenset()
    """Gates that this session does not ask: it was told to ask others alone."""
    unjudged: tuple[str, ...] = ()
    """Commands that the subject declares and that no gate asked."""
    interrupted: str | None = None
    """The signal that ended the session before it was over."""
    file_problems: list[str] = field(default_factory=list)
    """What became of the verdict's own files: changed by somebody else, not written."""

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The definition of done of the subject's level."""
        return tuple(
            replace(
                g, checks={c: rule for c, rule in g.checks.items() if f"{g.name}/{c}" not in self.left_out}
            )
            for g in gates_of(self.level, adapter=self.adapter, own_generator=self.own_generator)
        )

    @property
    def controls(self) -> list[Control]:
        """The controls that this session must refuse."""
        names = {g.name for g in self.gates}
        return [c for c in controls() if c.gate in names and (c.always or self.all_controls)]

    def record(self, finding: Finding) -> None:
        """Keep a finding about the subject. KeyError if the definition knows no such check."""
        if rule_of(finding.where) is None:
            raise KeyError(f"{finding.where} is not in gates/verdict/definition.py")
        self.findings[finding.where] = finding

    def record_control(self, name: str, finding: Finding) -> None:
        """Keep the finding about a negative control."""
        self.refusals[name] = finding

    def record_broken(self, gate: str, test: str, because: str = "") -> None:
        """Remember a test of a gate that did not pass, so that its gate cannot; `because`: what it said."""
        self.broken.setdefault(gate, []).append(test)
        if because:
            self.broken_because.setdefault(gate, {}).setdefault(because)

    def of_check(self, where: str) -> str:
        """PASSED, FAILED, NOT RUN, NOT OFFERED, or EXPECTED FAILURE if its rule is declared not to be kept."""
        finding = self.findings.get(where)
        if finding is None or finding.unproved:
            return NOT_RUN if finding is None else NOT_OFFERED
        if finding.passed:
            return PASSED
        return EXPECTED if rule_of(where) in self.expected else FAILED

    @property
    def not_offered(self) -> dict[str, str]:
        """What the subject does not hand over, or its run does not have -> what that leaves unproved."""
        found = {f"{f.where} ({f.figure})": f.unproved for f in self.findings.values() if f.unproved}
        return {**self.not_handed_over, **found}

    @property
    def failed_as_expected(self) -> dict[str, str]:
        """Rule -> reason, of the declared failures that were found."""
        found = {rule_of(where) for where in self.findings if self.of_check(where) == EXPECTED}
        return {rule: reason for rule, reason in self.expected.items() if rule in found}

    @property
    def unfulfilled(self) -> dict[str, str]:
        """Rule -> reason, of the declared failures that did not happen: every check of the rule passed."""
        checks: dict[str, list[str]] = {}
        for g in self.gates:
            for check, rule in g.checks.items():
                checks.setdefault(rule, []).append(self.of_check(f"{g.name}/{check}"))
        return {r: reason for r, reason in self.expected.items() if set(checks.get(r, ())) == {PASSED}}

    def of_control(self, name: str) -> str:
        """PASSED (refused for the stated reason), FAILED (accepted, or refused for another one) or NOT RUN."""
        finding = self.refusals.get(name)
        if finding is None:
            return NOT_RUN
        return PASSED if refused(name, finding) else FAILED

    def of_gate(self, name: str) -> str:
        """FAILED if anything in it failed, else NOT RUN if anything in it is missing, else PASSED."""
        parts = [self.of_check(f"{name}/{check}") for g in self.gates if g.name == name for check in g.checks]
        parts += [self.of_control(c.name) for c in self.controls if c.gate == name]
        if FAILED in parts or name in self.broken:
            return FAILED
        return NOT_RUN if NOT_RUN in parts else PASSED

    @property
    def overall(self) -> str:
        """PASSED, FAILED or INCOMPLETE."""
        parts = [self.of_gate(g.name) for g in self.gates]
        if FAILED in parts or self.unfulfilled or self.file_problems:
            return FAILED
        return INCOMPLETE if NOT_RUN in parts or self.unjudged or self.interrupted else PASSED


def refused(name: str, finding: Finding) -> bool:
    """Whether the control was turned away, by the check that must do it, and for the reason that it is wrong."""
    expected = control(name)
    right_check = finding.where == f"{expected.gate}/{expected.check}"
    return right_check and not finding.passed and expected.because in finding.message
