"""Which runs the gates start: those that the selected tests are marked to need, in the order of the tests."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from fixtures.controls.shared.table import Control
from gates.judge import tracking
from gates.subject.jobs import all_jobs, of_subject
from gates.subject.pool import Pool
from gates.subject.session import Session
from gates.verdict.definition import GATES, Gate, controls, gate_of

MOST_RUNS = "resume"


def select_tests(
    items: Iterable[pytest.Item], tried: Iterable[Control], asked: Iterable[Gate] = GATES
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests to run, in their order, and those left out: of other levels, of controls not tried.

    Gates come after all other tests, because their runs take the whole machine; the one with the most runs last: while
    its runs go on, the numbers of the others are recomputed.
    """
    names = {f"control/{c.name}" for c in tried}
    gates = {None, *(g.name for g in asked)}
    checks = {f"{g.name}/{check}" for g in asked for check in g.checks}
    kept, left_out = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        gate = gate_of_test(item)
        untried = gate and any(n[:8] == "control/" and n not in names for n in _needs(item))
        unasked = any(f"{gate}/{check}" not in checks for check in _marked(item, "establishes"))
        (left_out if untried or unasked or gate not in gates else kept).append(item)
    order = [None, *(g.name for g in GATES if g.name != MOST_RUNS), MOST_RUNS]
    return sorted(kept, key=lambda item: order.index(gate_of_test(item))), left_out


def start_runs(items: Sequence[pytest.Item], session: Session, tell: Callable[[str], None]) -> Pool:
    """Start every run that any of the gates' tests needs, when all that judges them is imported.

    `tell` is told of each that is over.
    """
    if any(gate_of_test(item) == "mlflow" for item in items):
        tracking.load()
    needed = [name for item in items if gate_of_test(item) for name in _needs(item)]
    jobs = all_jobs(session, controls())
    return Pool(jobs, needed, [name for name in jobs if of_subject(name)], tell)


def gate_of_test(item: pytest.Item) -> str | None:
    """The gate a test belongs to, None for a test of something else."""
    return gate_of(item.path.name) if item.path.parent == Path(__file__).parent else None


def _needs(item: pytest.Item) -> list[str]:
    """The jobs that a test looks at."""
    return _marked(item, "needs")


def _marked(item: pytest.Item, mark: str) -> list[str]:
    """What a test is marked with."""
    return [name for found in item.iter_markers(mark) for name in found.args]
