"""`@checks`: what makes a function a property of rules.

    @checks("LOSS-03", case=loss_cases())
    def test_mean_divides_by_unmasked_tokens(subject, dtype, case): ...

Rules first, the root cause before what follows from it; then a Hypothesis strategy for each drawn argument. A `dtype`
in the signature means both precisions. Around every example the decorator counts what was really asserted, turns
whatever a subject does into the failure of a rule, and keeps the calls for the diagnosis.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import example as explicitly
from hypothesis import seed as seeded
from hypothesis.errors import HypothesisException

from honestloop.guard import Call, Misbehaviour
from honestloop.protocol import FUNCTIONS, Subject
from properties.assertions import NotOfferedError, Refusal, refuse
from properties.property_record import Record, current, recording
from reference.rules import RULES

PRESENCE = "SUBJ-08"
"""The rule that asks which functions are there; that one alone holds of a subject without any."""

FRESH = 12
"""New examples of a property that a diagnosis is tried on."""
NEW_EXAMPLES = settings(
    max_examples=FRESH,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
in_both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@dataclass(frozen=True)
class Property:
    """A test of rules. What a run of it executed is in that run's `Record`."""

    test: Callable[..., None]
    rules: tuple[str, ...]
    strategies: dict[str, Any]
    floor: int | None
    """Examples that must be executed; None: half of the profile's."""
    always: tuple[dict[str, Any], ...] = ()
    """Examples that are tried in every run, before the drawn ones: sizes and values too rare or too large to draw."""

    @property
    def functions(self) -> frozenset[str]:
        """The protocol's functions that the test names, itself or through helpers of its module."""
        return frozenset(named_functions(self.test))

    @property
    def arguments(self) -> frozenset[str]:
        """Names of the test's arguments."""
        return frozenset(inspect.signature(self.test).parameters)

    @property
    def about_presence(self) -> bool:
        """Whether the test asks which functions are there."""
        return PRESENCE in self.rules

    def settle(self, record: Record) -> None:
        """Fail if a rule was asserted in fewer examples than its floor."""
        floor = self.floor or 1
        if self.floor is None and self.strategies:
            floor = max(1, record.max_examples // 2)
        for rule in self.rules:
            if rule not in record.spared and record.executed[rule] < floor:
                refuse(
                    rule,
                    f"was checked in {record.executed[rule]} examples, {floor} are required: this proves nothing",
                )

    def example(self, *args: Any, **kwargs: Any) -> None:
        """One example: the test's body, watched, and noted in the record of the run."""
        __tracebackhide__ = True
        with recording(current()) as record:
            try:
                self._watched(record, *args, **kwargs)
            except Refusal:
                subject = kwargs.get("subject")
                if isinstance(subject, Subject):
                    record.failed(subject.guard.calls)
                    record.fresh = functools.partial(self.fresh, subject, self._case(kwargs))
                raise

    def _case(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments that are neither drawn nor the subject."""
        return {name: x for name, x in arguments.items() if name not in {*self.strategies, "subject"}}

    def fresh(self, subject: Subject, case: dict[str, Any], seed: int) -> list[list[Call]]:
        """The calls of `FRESH` new examples, whether they pass or fail; none of a property that draws nothing."""
        seen: list[list[Call]] = []

        def watched(*args: Any, **kwargs: Any) -> None:
            with suppress(Refusal, NotOfferedError):
                self.example(*args, **kwargs)
            seen.append(list(subject.guard.calls))

        if self.strategies:
            with recording(Record(FRESH)):
                seeded(seed)(self.runnable(NEW_EXAMPLES, watched))(subject=subject, **case)
        return seen

    def _watched(self, record: Record, *args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        subject = kwargs.get("subject")
        if isinstance(subject, Subject):
            subject.guard.forget()
        record.asserted.clear()
        try:
            self.test(*args, **kwargs)
        except (Refusal, NotOfferedError, HypothesisException):
            raise
        except Misbehaviour as error:
            refuse(error.rule, f"{error.function} {error.found}", function=error.function)
        except Exception as error:
            if not isinstance(subject, Subject) or not subject.guard.calls:
                raise
            last = subject.guard.calls[-1].function
            found = f"what {last} returned cannot be used: {type(error).__name__}: {error}"
            refuse("SUBJ-01", found, function=last)
        self._note(record, subject)

    def _note(self, record: Record, subject: Any) -> None:
        """The example passed: count it, and keep its calls. A test without a subject asserts with `assert`."""
        if subject is None:
            record.asserted.update(self.rules)
        if unknown := record.asserted - {*self.rules, "SUBJ-01"}:
            raise TypeError(f"{self.test.__name__} asserts {sorted(unknown)}, which @checks does not name")
        record.executed.update(record.asserted)
        if isinstance(subject, Subject):
            record.history.append(list(subject.guard.calls))

    def runnable(
        self, chosen: settings | None = None, body: Callable[..., None] | None = None
    ) -> Callable[..., None]:
        """The test with its arguments drawn by Hypothesis, under these settings or the present profile.

        `body` takes the place of `example`, for a caller who wants to see every example.
        """

        @functools.wraps(self.test)
        def example(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            (body or self.example)(*args, **kwargs)

        if not self.strategies:
            return example
        drawn: Callable[..., None] = given(**self.strategies)(example)
        for arguments in reversed(self.always):
            drawn = explicitly(**arguments)(drawn)
        return chosen(drawn) if chosen else drawn

    def cases(self) -> Iterator[dict[str, Any]]:
        """Every combination of the test's parametrize marks."""
        marks = [mark.args for mark in getattr(self.test, "pytestmark", []) if mark.name == "parametrize"]
        for values in itertools.product(*(values for _, values in marks)):
            yield {name: value for (name, _), value in zip(marks, values, strict=True)}


def checks(
    *rules: str, floor: int | None = None, always: Iterable[dict[str, Any]] = (), **strategies: Any
) -> Callable[..., Any]:
    """Make a test a property of these rules. ValueError for no rule, an unknown one, or a floor below 1.

    Each dict of `always` has a value for every drawn argument: one example more, in every run.
    """
    if not rules or (unknown := set(rules) - RULES.keys()):
        raise ValueError(f"a property needs rules of the table; got {sorted(unknown) if rules else 'none'}")
    if floor is not None and floor < 1:
        raise ValueError(f"a floor of {floor} examples proves nothing")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        if "dtype" in inspect.signature(test).parameters:
            test = in_both_dtypes(test)
        prop = Property(test, rules, strategies, floor, tuple(always))
        runnable = prop.runnable()
        runnable.property = prop  # type: ignore[attr-defined]
        return runnable

    return decorate


def property_of(test: Any) -> Property | None:
    """The property a test function is; None for any other."""
    return getattr(test, "property", None)


def named_functions(test: Callable[..., Any], seen: frozenset[Any] = frozenset()) -> set[str]:
    """Functions of the protocol that the code names as attributes, or as strings, here and in helpers it calls."""
    code, globals_ = test.__code__, test.__globals__
    names = set(names_in(code))
    found = set(FUNCTIONS.keys() & names) if "subject" in code.co_varnames else set()
    for name in names - {test.__name__}:
        helper = globals_.get(name)
        if inspect.isfunction(helper) and helper.__module__ == test.__module__ and helper not in seen:
            found |= named_functions(helper, seen | {test})
    return found


def names_in(code: Any) -> Iterator[str]:
    """Names used by a code object and those defined inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from names_in(constant)


def all_properties() -> dict[str, Property]:
    """ "test_x.py::test_y" -> the property, in the order of the files."""
    found = {}
    package = __name__.rpartition(".")[0]
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for name, test in vars(import_module(f"{package}.{path.stem}")).items():
            if name.startswith("test_") and (prop := property_of(test)):
                found[f"{path.name}::{name}"] = prop
    return found
