"""Everything that is known of one function of a subject: the failing example, others, and probes of its loop."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from honestloop.conventions import Conventions
from honestloop.guard import Call
from honestloop.protocol import Subject
from properties.diagnosis import probes
from properties.diagnosis.argument_form import in_argument_form
from properties.diagnosis.budget import Budget
from properties.diagnosis.candidate import Candidate, Match, calls_of, prefilter
from properties.diagnosis.quantities import Compared, compared

Example = Sequence[Call]
Fresh = Callable[[int], list[list[Call]]]
NEW_SEED = 1
"""Draws the new examples."""
FAILURES = 3
"""Most other examples that failed: the first ones, which were not shrunk yet."""


class Shown:
    """One example, and what the oracle makes of it."""

    def __init__(self, oracle: Candidate, example: Example) -> None:
        self._oracle, self.example = oracle, example

    @functools.cached_property
    def plausible(self) -> Callable[[int, Any], bool] | None:
        """The filter before bounds are computed."""
        return prefilter(self._oracle, self.example)

    @functools.cached_property
    def of_oracle(self) -> Match:
        """How well the oracle matches it."""
        return self._oracle.match(self.example)

    def match(self, candidate: Candidate, required: int = Match.WITHIN_BOUND) -> Match:
        """How well a candidate does."""
        return candidate.match(self.example, required, self.plausible)


@dataclass
class Evidence:
    """The examples in which one function was called."""

    function: str
    conventions: Conventions
    failing: Shown
    failures: list[Shown]
    passed: list[Shown]
    subject: Subject | None
    more: Fresh | None
    """Runs the property on new examples."""
    budget: Budget

    @classmethod
    def of(
        cls,
        function: str,
        example: Example,
        passed: Sequence[Example],
        failures: Sequence[Example],
        subject: Subject | None,
        conventions: Conventions,
        budget: Budget,
        more: Fresh | None = None,
    ) -> "Evidence":
        """Of the calls of a function; with a generator of the subject's own, of those without dropout."""
        oracle = Candidate.oracle(function, conventions)

        def shown(examples: Sequence[Example]) -> list[Shown]:
            told = (told_apart(calls_of(function, x), conventions) for x in examples)
            return [Shown(oracle, calls) for calls in told if calls]

        first, *_ = [*shown([example]), Shown(oracle, [])]
        return cls(
            function, conventions, first, shown(failures[:FAILURES]), shown(passed), subject, more, budget
        )

    @functools.cached_property
    def probed(self) -> Mapping[str, Shown]:
        """Short runs of the subject's loop, by name; none of another function, or without a subject."""
        if self.function != "trainer" or self.subject is None:
            return {}
        oracle = Candidate.oracle(self.function, self.conventions)
        found = {}
        for name, calls in probes.runs(self.subject):
            if calls and self.budget.left():
                found[name] = Shown(oracle, calls)
        return found

    @functools.cached_property
    def compared(self) -> Mapping[str, Compared]:
        """What is wrong in each probe."""
        return {name: compared(shown.example, self.conventions) for name, shown in self.probed.items()}

    @functools.cached_property
    def fresh(self) -> list[Shown]:
        """New examples of the property that failed, whether they pass or fail."""
        if self.more is None:
            return []
        oracle = Candidate.oracle(self.function, self.conventions)
        told = (told_apart(calls_of(self.function, x), self.conventions) for x in self.more(NEW_SEED))
        return [Shown(oracle, calls) for calls in told if calls]

    def confirms(self, candidate: Candidate) -> bool:
        """Whether nothing that is known contradicts it: other failures, new examples, the probes, what passed.

        Of a window that is not finite nothing is asked: raising and skipping are both right, and NaN has no bound. What
        could not be asked in time confirms nothing.
        """
        shown = [*self.failures, *self.fresh]
        shown += [one for name, one in self.probed.items() if name != probes.REFUSED]
        shown += [one for one in self.passed if one.of_oracle]
        return all(self.budget.left() and one.match(candidate) for one in shown)

    def score(self, candidate: Candidate) -> int:
        """How well it matches in all: examples in which it is exact count twice."""
        everything = [self.failing, *self.failures, *self.fresh, *self.passed, *self.probed.values()]
        return sum(shown.match(candidate) for shown in everything if self.budget.left())


def told_apart(calls: Sequence[Call], conventions: Conventions) -> list[Call]:
    """The calls whose numbers an oracle has: none of a trainer with dropout by a generator of the subject's own."""
    calls = in_argument_form(calls)
    if conventions.generator == "philox" or not any(call.function == "trainer" for call in calls):
        return calls
    dropping = {
        call.target for call in calls if call.method is None and call.args[1].get("dropout", 0.0) != 0.0
    }
    return [replace(call) for call in calls if call.target not in dropping]
