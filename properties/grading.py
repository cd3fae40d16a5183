"""The pytest side of the properties: order, what is not offered, what is blocked, diagnosis, and the report by rule.

A rule that depends on a broken one is reported as blocked, not as failed: the first failure shown is the root cause.
"""

from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any

import pytest
from hypothesis.errors import FlakyFailure

from honestloop.protocol import FUNCTIONS, ProtocolError, Subject
from properties import assertions
from properties.assertions import Refusal
from properties.checks import Property, property_of
from properties.snippet import snippet
from reference.rules import RULES

NAMED = 3
"""Most mistakes named for one failure; those that nothing tells apart behave the same in every example seen."""
BLOCKED, NOT_OFFERED = "blocked by ", "not offered: "
FAMILIES = list(dict.fromkeys(rule.family for rule in RULES.values()))


class Grading:
    """One session: the subject, and what is known about it so far."""

    def __init__(self, subject: Subject) -> None:
        self.graded = subject
        self.broken_rules: dict[str, None] = {}
        self.broken_functions: dict[str, str] = {}
        """Function -> the rule for every function that it breaks."""
        self.executed: Counter[str] = Counter()
        self.not_offered: dict[str, str] = {}
        """Rule -> why it was not graded."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Properties in the order of the table of rules: what holds for every function first."""
        items.sort(key=lambda item: place(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        prop = property_of(getattr(item, "obj", None))
        if prop is not None:
            if "subject" in getattr(item, "fixturenames", ()):
                self.require_offered(item, prop)
            self.require_unblocked(item, prop)
        return (yield)

    def require_offered(self, item: pytest.Item, prop: Property) -> None:
        """Skip what the subject does not offer; fail, with one line, what it should."""
        try:
            offered, conventions = self.graded.offered, self.graded.conventions
        except ProtocolError as error:
            pytest.fail(str(error), pytrace=False)
        missing = sorted(functions_of(item, prop) - offered)
        if missing and not prop.about_presence:
            self.skip(prop, f"{NOT_OFFERED}{', '.join(missing)}")
        dtype = parameter(item, "dtype")
        if dtype is not None and dtype not in conventions.float_types:
            self.skip(prop, f"{NOT_OFFERED}{dtype.__name__}")

    def skip(self, prop: Property, reason: str) -> None:
        for rule in prop.rules:
            self.not_offered.setdefault(rule, reason)
        pytest.skip(reason)

    def require_unblocked(self, item: pytest.Item, prop: Property) -> None:
        """Skip what cannot hold because something under it is broken."""
        for function in sorted(functions_of(item, prop) & self.broken_functions.keys()):
            pytest.skip(f"{BLOCKED}{self.broken_functions[function]} ({function})")
        for rule in prop.rules:
            for needed in needs(rule):
                if needed in self.broken_rules and needed not in prop.rules:
                    pytest.skip(f"{BLOCKED}{needed}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Run the property; on a failure, say what the mistake looks like."""
        prop = property_of(getattr(item, "obj", None))
        if prop is None:
            return (yield)
        prop.begin()
        message, result = "", None
        try:
            result = yield
        except Refusal as refusal:
            self.explain(refusal, prop)
            self.note_failure(refusal)
            notes = [f"  {line}" for note in getattr(refusal, "__notes__", ()) for line in note.splitlines()]
            message = "\n".join([str(refusal), *notes])
        except ProtocolError as error:
            message = str(error)
        except FlakyFailure:
            flaky = Refusal("SUBJ-03", ("an example of this property failed, and passed when tried again",))
            self.note_failure(flaky)
            message = str(flaky)
        self.executed.update(prop.executed)
        if not message:
            try:
                prop.settle()
            except Refusal as refusal:
                message = str(refusal)
        if message:
            pytest.fail(message, pytrace=False)
        return result

    def explain(self, refusal: Refusal, prop: Property) -> None:
        """Add the diagnosis and a snippet to a refusal."""
        calls = list(self.graded.guard.calls)
        if not calls:
            return
        refusal.snippet = snippet(self.graded.name, calls)
        if refusal.rule != "SUBJ-07":  # to hang once is enough
            from properties.diagnosis import diagnose  # the mutants are needed only on a failure

            mutants = diagnose(calls, prop.history, self.graded.conventions)
            refusal.behaves_like = tuple(mutant.described for mutant in mutants[:NAMED])

    def note_failure(self, refusal: Refusal) -> None:
        """What rests on this is blocked from now on."""
        self.broken_rules.setdefault(refusal.rule)
        if RULES[refusal.rule].family == "SUBJ" and refusal.function:
            self.broken_functions.setdefault(refusal.function.split(".")[0], refusal.rule)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Words of our own for a property that was blocked or is not offered."""
        reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        reason = reason.removeprefix("Skipped: ")
        if reason.startswith(BLOCKED):
            return "blocked", "b", ("BLOCKED", {"yellow": True})
        if reason.startswith(NOT_OFFERED):
            return "not offered", "n", ("NOT OFFERED", {"yellow": True})
        return None

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        write = terminalreporter.write_line
        for status in ("blocked", "not offered"):
            for line in grouped(terminalreporter.stats.get(status, ())):
                write(line)
        if config.getoption("--margins"):
            terminalreporter.section("examples executed, and the largest error / bound, of every rule")
            for line in self.table():
                write(line)
        if self.executed:
            graded = sorted(self.executed.keys() - self.broken_rules.keys())
            words = [f"{len(graded)} rules hold", f"{len(self.broken_rules)} are broken"]
            write(f"{', '.join(words)}; {len(self.not_offered.keys() - self.executed.keys())} not graded")

    def table(self) -> Iterable[str]:
        """One line a rule that ran."""
        for rule in RULES:
            if self.executed[rule]:
                margins = [
                    f"{dtype} {ratio:.2e}"
                    for (name, dtype), ratio in sorted(assertions.margins.items())
                    if name == rule
                ]
                yield f"{rule:10} {self.executed[rule]:7} examples  {'  '.join(margins) or 'exact'}"


def place(item: pytest.Item) -> tuple[int, int]:
    """Tests before properties as they are; properties by the place of their rule's family in the table."""
    prop = property_of(getattr(item, "obj", None))
    if prop is None:
        return (0, 0)
    rules = [FAMILIES.index(RULES[rule].family) for rule in prop.rules]
    return (1, rules[0])


def parameter(item: pytest.Item, name: str) -> Any:
    """The value a parametrised test has for this argument; None if it has no such argument."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(name) if callspec else None


def functions_of(item: pytest.Item, prop: Property) -> frozenset[str]:
    """The functions a test grades: those in its code, and the one it is parametrised with."""
    name = parameter(item, "name")
    return prop.functions | ({name} if name in FUNCTIONS else set())


def needs(rule: str) -> Iterable[str]:
    """The rules under this one, and those under them."""
    for needed in RULES[rule].needs:
        yield needed
        yield from needs(needed)


def grouped(reports: Iterable[pytest.TestReport]) -> list[str]:
    """One line a reason, with the tests it holds for."""
    reasons: dict[str, list[str]] = {}
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        reasons.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid.split("::")[-1])
    return [f"{reason}: {len(tests)} tests" for reason, tests in sorted(reasons.items())]
