"""Grading a subject by all properties: what is not offered, what is blocked, diagnosis, expected failures.

A rule that depends on a broken one is blocked, not broken: the first failure shown is the root cause. Nothing here
knows pytest: `honestloop.plugin` grades under it, `honestloop.check` without it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any

from hypothesis.errors import FlakyFailure

from honestloop.protocol import FUNCTIONS, ProtocolError, Subject
from properties.assertions import NotOfferedError, Refusal
from properties.checks import PRESENCE, Property
from properties.property_record import Record, recording
from properties.reproducer import snippet
from reference.rules import RULES

FAMILIES = list(dict.fromkeys(rule.family for rule in RULES.values()))


class Status(StrEnum):
    """What became of a property, or of a rule."""

    HOLDS = "holds"
    BROKEN = "broken"
    EXPECTED = "expected failure"
    BLOCKED = "blocked"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True)
class Outcome:
    """What became of one property with one set of parameters."""

    status: Status
    rules: tuple[str, ...]
    """Those that it is about: the broken one alone if one broke."""
    text: str = ""
    """The message of a failure, or the reason why it was not graded."""
    refusal: Refusal | None = None
    """What broke, in its parts."""


class Grading:
    """One subject, and what is known about it so far."""

    def __init__(self, subject: Subject, expected: Mapping[str, str] | None = None) -> None:
        """`expected` adds to the failures that the subject itself declares in EXPECTED: rule -> reason."""
        self.subject = subject
        self._also_expected = expected or {}
        self.broken: dict[str, None] = {}
        """Rules, in the order in which they broke."""
        self.first: Refusal | None = None
        """What broke first."""
        self.expected_seen: dict[str, str] = {}
        """Rules that are broken as was declared -> the declared reason."""
        self.missing: dict[str, str] = {}
        """Rule -> the line that says which required function is not there, or why the subject cannot be used."""
        self.blocked: dict[str, str] = {}
        """Rule -> why it could not be graded."""
        self.broken_functions: dict[str, str] = {}
        """Function -> the rule for every function that it breaks."""
        self.executed: Counter[str] = Counter()
        """Rule -> examples in which it was asserted."""
        self.margins: dict[tuple[str, str], float] = {}
        """(rule, dtype) -> largest error / bound."""
        self.not_offered: dict[str, str] = {}
        """Rule -> why it was not graded."""

    @property
    def expected(self) -> Mapping[str, str]:
        """Rule -> the declared reason why it does not hold. ProtocolError if a declaration is not of that form."""
        return {**self.subject.expected, **self._also_expected}

    def before(self, prop: Property, parameters: Mapping[str, Any]) -> Outcome | None:
        """Why this property cannot be run on the subject; None if it can.

        `parameters` has the values of its parametrisation by name.
        """
        functions = functions_of(prop, parameters)
        try:
            offered, dtypes = self.subject.offered, self.subject.conventions.float_types
            missing = sorted(functions - offered)
        except ProtocolError as error:
            return self.unusable(prop, error)
        dtype = parameters.get("dtype")
        if missing and not prop.about_presence:
            return self.not_spoken_of(prop, ", ".join(missing))
        if dtype is not None and dtype not in dtypes:
            return self.not_spoken_of(prop, dtype.__name__)
        for function in sorted(functions & self.broken_functions.keys()):
            return self._blocked(prop, f"{self.broken_functions[function]} ({function})")
        for rule in prop.rules:
            for needed in needs(rule):
                if needed in self.broken and needed not in prop.rules:
                    return self._blocked(prop, needed)
                if needed in self.expected_seen and needed not in prop.rules:
                    return self._blocked(prop, f"{needed}, an expected failure")
        return None

    def attempt(self, prop: Property, record: Record) -> "Attempt":
        """A `with` block in which to run the property; afterwards it has the outcome."""
        return Attempt(self, prop, record)

    def reproduction(self, prop: Property) -> str:
        """What to type to have the property graded alone."""
        if self.subject.module is None:
            return f'honestloop.check(..., rules="{prop.rules[0]}")'
        return f"honestloop check {self.subject.module} --rule {prop.rules[0]}"

    def unfulfilled(self, *, complete: bool) -> list[str]:
        """A line for each expected failure that did not happen: it holds, or (if all were run) it was not graded."""
        lines = []
        try:
            declared = self.expected
        except ProtocolError:  # which every property has said
            return []
        for rule, reason in declared.items():
            if rule in self.expected_seen:
                continue
            if self.executed[rule]:
                lines.append(
                    f"{rule}  holds, though EXPECTED declares that it does not ({reason}): remove it"
                )
            elif complete:
                lines.append(f"{rule}  is declared in EXPECTED and was not graded ({reason}): remove it")
        return lines

    @property
    def any_graded(self) -> bool:
        """Whether any function was put to the test."""
        return bool(self.executed.keys() - {PRESENCE} or self.broken or self.missing or self.expected_seen)

    def status_of(self, rule: str) -> Status | None:
        """What became of a rule; None if no property of it was asked."""
        if rule in self.broken or rule in self.missing:
            return Status.BROKEN
        if rule in self.expected_seen:
            return Status.EXPECTED
        if rule in self.blocked:  # whatever else of it was asked
            return Status.BLOCKED
        if self.executed[rule]:
            return Status.HOLDS
        return Status.NOT_OFFERED if rule in self.not_offered else None

    def of_status(self, status: Status) -> list[str]:
        """The rules that it became of, in the order of the table."""
        return [rule for rule in RULES if self.status_of(rule) == status]

    def summary(self) -> str:
        """One line: how many rules hold, are broken, were expected to be, are blocked or not offered."""
        n = {status: len(self.of_status(status)) for status in Status}
        words = [f"{n[Status.HOLDS]} rule{' holds' if n[Status.HOLDS] == 1 else 's hold'}"]
        for status, what in (
            (Status.BROKEN, "broken"),
            (Status.EXPECTED, "broken as declared"),
            (Status.BLOCKED, "blocked"),
        ):
            if n[status] or status == Status.BROKEN:
                words.append(f"{n[status]} {'is' if n[status] == 1 else 'are'} {what}")
        return f"{', '.join(words)}; {n[Status.NOT_OFFERED]} not offered"

    def last_line(self) -> str:
        """The subject, how many rules hold, and of the first that is broken what it looks like."""
        said = f"honestloop: {self.subject.name}: {self.summary()}"
        if self.first is not None:
            law = RULES[self.first.rule]
            likeness = f" behaves like: {self.first.behaves_like[0]};" if self.first.behaves_like else ""
            said += f". First {law.id}:{likeness} look for: {law.hint}"
        return said

    def margins_table(self) -> Iterator[str]:
        """One line a rule that ran: the examples executed, and the largest error / bound of each dtype."""
        for rule in RULES:
            if self.executed[rule]:
                margins = [
                    f"{dtype} {ratio:.2e}"
                    for (name, dtype), ratio in sorted(self.margins.items())
                    if name == rule
                ]
                yield f"{rule:10} {self.executed[rule]:7} examples  {'  '.join(margins) or 'exact'}"

    # ---- what an attempt found

    def note(self, record: Record) -> None:
        """Add what a run executed."""
        self.executed.update(record.executed)
        for key, ratio in record.margins.items():
            self.margins[key] = max(self.margins.get(key, 0.0), ratio)

    def unusable(self, prop: Property, error: ProtocolError) -> Outcome:
        """The subject cannot be asked."""
        for rule in prop.rules:
            self.missing.setdefault(rule, str(error))
        return Outcome(Status.BROKEN, prop.rules, str(error))

    def refused(self, refusal: Refusal, record: Record | None = None) -> Outcome:
        """A rule is broken, as declared or not; what its run recorded is for the diagnosis."""
        if refusal.rule in self.expected:
            reason = self.expected[refusal.rule]
            self.expected_seen[refusal.rule] = reason
            return Outcome(
                Status.EXPECTED, (refusal.rule,), f"{refusal.rule} is broken as declared: {reason}"
            )
        if record is not None:
            self._explain(refusal, record)
        self.broken.setdefault(refusal.rule)
        self.first = self.first or refusal
        if RULES[refusal.rule].family == "SUBJ" and refusal.function:
            self.broken_functions.setdefault(refusal.function.split(".")[0], refusal.rule)
        # Hypothesis's note is the example once more, if a snippet repeats it.
        told = () if refusal.snippet[1:] else getattr(refusal, "__notes__", ())
        notes = [f"  {line}" for note in told for line in note.splitlines()]
        return Outcome(Status.BROKEN, (refusal.rule,), "\n".join([str(refusal), *notes]), refusal)

    def _explain(self, refusal: Refusal, record: Record) -> None:
        """Add the diagnosis and a snippet to a refusal."""
        calls = list(self.subject.guard.calls)
        if not calls:
            return
        refusal.snippet = snippet(self.subject.module, calls)
        if refusal.rule != "SUBJ-07":  # to hang once is enough
            from properties.diagnosis import diagnose  # the mutants are needed only on a failure

            try:
                found = diagnose(
                    calls,
                    list(record.history),
                    self.subject.conventions,
                    failures=record.failures,
                    fresh=record.fresh,
                    subject=self.subject,
                )
            except Exception as error:  # whatever a subject returns, its failure is told
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                refusal.behaves_like = (f"not known: the diagnosis itself failed ({reason})",)
            else:
                refusal.behaves_like = found.lines

    def not_spoken_of(self, prop: Property, what: str) -> Outcome:
        """Its rules do not apply to what the subject offers and declares."""
        reason = f"{Status.NOT_OFFERED}: {what}"
        for rule in prop.rules:
            self.not_offered.setdefault(rule, reason)
        return Outcome(Status.NOT_OFFERED, prop.rules, reason)

    def _blocked(self, prop: Property, by: str) -> Outcome:
        reason = f"{Status.BLOCKED} by {by}"
        for rule in prop.rules:
            self.blocked.setdefault(rule, reason)
        return Outcome(Status.BLOCKED, prop.rules, reason)


class Attempt:
    """Run one property in a `with` block: what it raises about the subject becomes the outcome and goes no further."""

    def __init__(self, grading: Grading, prop: Property, record: Record) -> None:
        self._grading, self._prop, self._record = grading, prop, record
        self._recording = recording(record)
        self.outcome = Outcome(Status.HOLDS, prop.rules)

    def __enter__(self) -> "Attempt":
        self._recording.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._recording.__exit__(None, None, None)
        self._grading.note(self._record)
        if error is None:
            try:
                self._prop.settle(self._record)
            except Refusal as refusal:
                self.outcome = self._grading.refused(refusal)
        elif isinstance(error, Refusal):
            self.outcome = self._grading.refused(error, self._record)
        elif isinstance(error, NotOfferedError):
            self.outcome = self._grading.not_spoken_of(self._prop, str(error))
        elif isinstance(error, ProtocolError):
            self.outcome = self._grading.unusable(self._prop, error)
        elif not isinstance(
            error, (Exception, KeyboardInterrupt)
        ):  # sys.exit(), pytest.skip() of an object of its own
            found = (
                f"something that it returned raised {type(error).__name__}: {' '.join(str(error).split())}"
            )
            with recording(self._record):
                ended = Refusal("SUBJ-05", (found,))
            self.outcome = self._grading.refused(ended)
        elif isinstance(error, FlakyFailure):
            found = "an example of this property failed, and passed when tried again"
            with recording(self._record):
                flaky = Refusal("SUBJ-03", (found,))
            self.outcome = self._grading.refused(flaky)
        else:
            return False
        return True


def place(prop: Property) -> int:
    """Where the family of its first rule stands in the table: the order in which properties run."""
    return FAMILIES.index(RULES[prop.rules[0]].family)


def functions_of(prop: Property, parameters: Mapping[str, Any]) -> frozenset[str]:
    """The functions it grades: those in its code, and the one it is parametrised with."""
    name = parameters.get("name")
    return prop.functions | ({name} if name in FUNCTIONS else set())


def needs(rule: str) -> Iterable[str]:
    """The rules under this one, and those under them."""
    for needed in RULES[rule].needs:
        yield needed
        yield from needs(needed)


def grouped(reasons: Iterable[str]) -> list[str]:
    """One line a reason, with the number of tests that it stands for."""
    return [f"{reason}: {n} test{'s' * (n > 1)}" for reason, n in sorted(Counter(reasons).items())]
