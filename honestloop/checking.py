"""`honestloop.check()`: grade a subject by the properties in this process: for a notebook, a callback, the command."""

import contextlib
import io
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings

from honestloop import guard
from honestloop.exit_status import FAILED, NOTHING_GRADED, OK
from honestloop.protocol import Subject, expected_failures
from honestloop.rule_names import selected
from properties.checks import Property, all_properties
from properties.grading import Grading, Outcome, Status, grouped, place
from properties.profiles import PROFILES
from properties.property_record import Record
from reference.rules import RULES


@dataclass(frozen=True)
class Result:
    """What became of one property with one set of parameters."""

    test: str
    """ "test_loss.py::test_name[float32]" """
    outcome: Outcome


@dataclass(frozen=True)
class Report:
    """What `check` found. It is true if everything that was graded holds; as text it is what the command prints."""

    subject: str
    profile: str
    complete: bool
    """Whether all rules were asked for."""
    grading: Grading = field(repr=False)
    results: tuple[Result, ...] = field(repr=False)

    @property
    def status(self) -> int:
        """0: what was graded holds, or fails as declared; 1: a rule is broken, or a declared failure did not happen; 3:
        nothing was graded."""
        failed = any(result.outcome.status == Status.BROKEN for result in self.results)
        if failed or self.unfulfilled:
            return FAILED
        return OK if self.grading.any_graded else NOTHING_GRADED

    def __bool__(self) -> bool:
        return self.status == OK

    @property
    def rules(self) -> dict[str, Status]:
        """Rule -> what became of it, for every rule that a property was asked about, in the order of the table."""
        return {rule: status for rule in RULES if (status := self.grading.status_of(rule)) is not None}

    @property
    def broken(self) -> dict[str, str]:
        """Rule -> the message of its first failure, in the order in which they were found."""
        found: dict[str, str] = {}
        for result in self.results:
            if result.outcome.status == Status.BROKEN:
                for rule in result.outcome.rules:
                    found.setdefault(rule, result.outcome.text)
        return found

    @property
    def expected(self) -> dict[str, str]:
        """Rule -> reason, of the rules that are broken as was declared."""
        return dict(self.grading.expected_seen)

    @property
    def not_offered(self) -> list[str]:
        """The functions that the subject does not have, and what its declarations rule out."""
        prefix = f"{Status.NOT_OFFERED}: "
        reasons = [
            r.outcome.text.removeprefix(prefix)
            for r in self.results
            if r.outcome.status == Status.NOT_OFFERED
        ]
        return sorted({name for reason in reasons for name in reason.split(", ")})

    @property
    def unfulfilled(self) -> list[str]:
        """A line for each declared failure that did not happen."""
        return self.grading.unfulfilled(complete=self.complete)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "subject": self.subject,
            "profile": self.profile,
            "status": self.status,
            "rules": {rule: str(status) for rule, status in self.rules.items()},
            "examples": dict(self.grading.executed),
            "broken": self.broken,
            "expected": self.expected,
            "unfulfilled": self.unfulfilled,
        }

    @property
    def last_line(self) -> str:
        """The subject and the counts."""
        if self.status == NOTHING_GRADED:
            return f"honestloop: {self.subject}: nothing was graded; {self.grading.summary()}"
        return f"honestloop: {self.subject}: {self.grading.summary()}"

    def __str__(self) -> str:
        messages = dict.fromkeys(self.broken.values())
        return "\n".join([*(line for message in messages for line in (message, "")), self.summary])

    @property
    def summary(self) -> str:
        """What was not graded and why, and, at the end, the broken rules once more and the counts."""
        lines: list[str] = []
        for status in (Status.BLOCKED, Status.EXPECTED):
            lines += grouped(r.outcome.text for r in self.results if r.outcome.status == status)
        if self.not_offered:
            lines += textwrap.wrap(f"not offered: {', '.join(self.not_offered)}", 100, subsequent_indent="  ")
        if self.broken:
            lines.append(f"broken: {', '.join(self.broken)}")
        return "\n".join([*lines, *self.unfulfilled, self.last_line])


def check(
    subject: Any,
    rules: Iterable[str] | None = None,
    profile: str = "dev",
    expected: Mapping[str, str] | None = None,
    *,
    time_limit: float = guard.TIME_LIMIT,
    ends_process: bool = False,
    first: bool = False,
    on_result: Callable[[Result], None] | None = None,
) -> Report:
    """Grade a subject: a module or its name, a mapping of names to functions, or any object that has them.

    `rules`: ids or families ("LOOP-02", "LOOP"); all, if None. `profile`: "dev", "ci" or "nightly", how many examples.
    `expected`: rule -> reason, of rules that are known not to hold, beside those in the subject's EXPECTED.
    `time_limit`: seconds a call may take; `ends_process`: whether one that native code holds up may end this process.
    `first`: stop at the first failure. `on_result` is told each result as it comes.

    ValueError for an unknown rule or profile, ProtocolError for a subject that cannot be imported or declares nonsense.
    """
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; there are {', '.join(PROFILES)}")
    chosen, wanted = settings(PROFILES[profile], database=None), selected(rules)
    graded = Subject(subject, time_limit=time_limit, ends_process=ends_process)
    grading = Grading(graded, expected_failures(expected or {}))
    _ = (
        graded.offered,
        graded.conventions,
        grading.expected,
    )  # what is wrong with a declaration is said at once
    results: list[Result] = []
    for test, prop, parameters in cases(wanted):
        results.append(Result(test, run(grading, test, prop, parameters, chosen)))
        if on_result:
            on_result(results[-1])
        if first and results[-1].outcome.status == Status.BROKEN:
            break
    return Report(graded.name, profile, rules is None and not first, grading, tuple(results))


def run(
    grading: Grading, test: str, prop: Property, parameters: Mapping[str, Any], chosen: settings
) -> Outcome:
    """Run one property with these parameters."""
    takes_subject = "subject" in prop.arguments
    if takes_subject and (outcome := grading.before(prop, parameters)):
        return outcome
    record = Record(chosen.max_examples, reproduce=grading.reproduction(prop))
    arguments = {**parameters, **({"subject": grading.subject} if takes_subject else {})}
    hypothesis_says = contextlib.redirect_stdout(
        io.StringIO()
    )  # how to repeat a failure, which a message says better
    with warnings.catch_warnings(), hypothesis_says, grading.attempt(prop, record) as attempt:
        warnings.simplefilter("ignore")  # those of a subject are its own affair
        prop.runnable(chosen)(**arguments)
    return attempt.outcome


def cases(wanted: frozenset[str]) -> Iterator[tuple[str, Property, Mapping[str, Any]]]:
    """(test, property, parameters) of every property of these rules, in the order of the table of rules."""
    for test, prop in sorted(all_properties().items(), key=lambda item: place(item[1])):
        if wanted.intersection(prop.rules):
            for parameters in prop.cases():
                label = "-".join(getattr(value, "__name__", str(value)) for value in parameters.values())
                yield f"{test}[{label}]" if label else test, prop, parameters
