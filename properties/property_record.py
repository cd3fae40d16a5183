"""What one run of one property notes: the rules it asserted, in how many examples, and how near the bounds it came.

The record belongs to whoever runs the property. Assertions find it through a context variable, so two runs, in two
threads or one inside the other, never share one.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from hypothesis import settings

from honestloop.guard import Call

HISTORY = 30
"""Examples whose calls are kept: the diagnosis must explain the ones that passed, too."""
FAILURES = 3
"""Examples that failed whose calls are kept."""


@dataclass
class Record:
    """One run of one property."""

    max_examples: int = field(default_factory=lambda: (settings.default or settings()).max_examples)
    """Of the profile it runs under."""
    reproduce: str = ""
    """The command that repeats this run."""
    asserted: set[str] = field(default_factory=set)
    """Rules asserted in the present example."""
    executed: Counter[str] = field(default_factory=Counter)
    """Examples in which each rule was asserted."""
    spared: set[str] = field(default_factory=set)
    """Rules that do not speak of this subject, though others of the same property do."""
    margins: dict[tuple[str, str], float] = field(default_factory=dict)
    """Largest error / bound seen, by (rule, dtype)."""
    history: deque[list[Call]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    """Calls of the examples that passed."""
    fresh: Callable[[int], list[list[Call]]] | None = None
    """Runs the property on new examples, drawn with this seed, and returns the calls of each."""
    failures: list[list[Call]] = field(default_factory=list)
    """Calls of the first examples that failed: Hypothesis has shrunk them least."""

    def failed(self, calls: list[Call]) -> None:
        """Keep the calls of an example that failed."""
        if len(self.failures) < FAILURES:
            self.failures.append(list(calls))


_CURRENT: ContextVar[Record] = ContextVar("record")


def current() -> Record:
    """The record of the run under way; a new one, which nobody reads, for an assertion outside of any."""
    try:
        return _CURRENT.get()
    except LookupError:
        return Record(reproduce=f'pytest "{running_test()}"')


@contextmanager
def recording(record: Record) -> Iterator[Record]:
    """Make it the record of what runs in the `with` block."""
    token = _CURRENT.set(record)
    try:
        yield record
    finally:
        _CURRENT.reset(token)


def running_test() -> str:
    """Id of the test that pytest runs now; "properties" outside of pytest."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0] or "properties"
