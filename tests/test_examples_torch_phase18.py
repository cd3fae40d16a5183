"""The PyTorch example of phase 18, right and wrong, by its followed run alone; `make examples` grades all of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gates.judge import declared_masks, declared_rows, log_checks, update
from gates.judge.declared_masks import Asked
from gates.judge.run_record import TrainingPlan
from gates.subject.process import Process
from gates.subject.session import Session
from gates.subject.stepwise_runs import ConfiguredRun, train_updates
from gates.verdict.finding import Finding, no_problems
from honestloop.description import describe
from tests import graded_examples
from tests.graded_examples import Mistake

EXAMPLE = "torch_phase18"
REPLAYED = (4, 7)  # at the peak, where clipping matters; the short batch
MISTAKES = {m.name: m for m in graded_examples.mistakes() if m.example == EXAMPLE}


@contextmanager
def session_of(folder: Path, home: Path) -> Iterator[Session]:
    """A session whose warm processes end with it."""
    session = Session(describe(str(folder)), home, 1, 2)
    try:
        yield session
    finally:
        for server in session._servers._free:
            server.kill_all_of_it()
        Process._running.clear()


def rows_of(followed: ConfiguredRun) -> Finding:
    """Only the followed run, so without other seeds: it is compared with itself, but for that."""
    plan = TrainingPlan.of(followed)
    problems = [*declared_rows._whole("run", plan.declared.rows(followed.run), plan)]
    problems += declared_rows._shuffled(
        "run", list(declared_rows._epochs([r for _, r in plan.rows], plan)), plan
    )
    return no_problems("declared/rows", problems, of="1 run")


def masks_of(followed: ConfiguredRun) -> Finding:
    """The same for masks."""
    plan = TrainingPlan.of(followed)
    one = Asked("run", plan, tuple(range(1, plan.settings.steps + 1)))
    problems = [*declared_masks._of_run(one, {k: plan.masks(k) for k in one.updates})]
    return no_problems("declared/masks", problems, of="1 run")


CHECKS: dict[str, Callable[[ConfiguredRun], Finding]] = {
    "update/log": lambda f: update.log(update.replay_updates(f, REPLAYED)),
    "update/moments": lambda f: update.moments(update.replay_updates(f, REPLAYED)),
    "update/weights": lambda f: update.weights(update.replay_updates(f, REPLAYED)),
    "update/schedule": lambda f: log_checks.schedule([(f.run, TrainingPlan.of(f).settings)]),
    "update/data": lambda f: log_checks.data([(f.run, TrainingPlan.of(f))]),
    "declared/rows": rows_of,
    "declared/masks": masks_of,
}
IN_ANY_CASE = ("tells_of_other_rows", "rate_of_the_next_update")
NEEDS_OTHER_RUNS = ("same_order_for_every_seed", "masks_come_again_every_epoch")


def test_the_example_is_right(tmp_path):
    with session_of(graded_examples.EXAMPLES / EXAMPLE, tmp_path) as session:
        followed = train_updates(session).followed
        for name, check in CHECKS.items():
            found = check(followed)
            assert (found.where, found.passed) == (name, True), found.message


def parameter(mistake: Mistake) -> object:
    marks = [] if mistake.name in IN_ANY_CASE else [pytest.mark.thorough]
    return pytest.param(mistake, id=mistake.name, marks=marks)


@pytest.mark.parametrize(
    "mistake",
    [parameter(m) for m in MISTAKES.values() if m.check in CHECKS and m.name not in NEEDS_OTHER_RUNS],
)
def test_a_mistake_is_refused(mistake, tmp_path):
    folder = graded_examples.copy(EXAMPLE, tmp_path)
    mistake.make(folder)
    with session_of(folder, tmp_path / "runs") as session:
        found = CHECKS[mistake.check](train_updates(session).followed)
    assert not found.passed
    assert mistake.says in found.message
