"""Which runs the gates start: those that the selected tests are marked to need, in the order of the tests."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from fixtures.controls.shared.table import Control
from gates.subject.jobs import all_jobs
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
    kept, left_out = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        gate = gate_of_test(item)
        untried = gate and any(n[:8] == "control/" and n not in names for n in _needs(item))
        (left_out if untried or gate not in gates else kept).append(item)
    order = [None, *(g.name for g in GATES if g.name != MOST_RUNS), MOST_RUNS]
    return sorted(kept, key=lambda item: order.index(gate_of_test(item))), left_out


def start_runs(items: Iterable[pytest.Item], session: Session) -> Pool:
    """Start every run that any of the gates' tests needs."""
    needed = [name for item in items if gate_of_test(item) for name in _needs(item)]
    return Pool(all_jobs(session, controls()), needed)


def gate_of_test(item: pytest.Item) -> str | None:
    """The gate a test belongs to, None for a test of something else."""
    return gate_of(item.path.name) if item.path.parent == Path(__file__).parent else None


def _needs(item: pytest.Item) -> list[str]:
    """The jobs that a test looks at."""
    return [name for mark in item.iter_markers("needs") for name in mark.args]
