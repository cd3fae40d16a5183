"""The PyTorch example of phase 18, right and wrong, by its shortest runs alone; `make examples` grades all of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gates.judge import declared_masks, declared_rows, log_checks, manifest, update
from gates.judge.declared_masks import Asked
from gates.judge.run_record import TrainingPlan
from gates.subject.process import Process
from gates.subject.run_directory import RunDirectory
from gates.subject.session import Session
from gates.subject.stepwise_runs import ConfiguredRun, Updates, train_updates
from gates.verdict.finding import Finding, all_equal, no_problems
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
            server.kill()
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


def generator_of(begun: RunDirectory) -> Finding:
    """Of what a manifest says of its run, the generator: the rest needs a run that has ended."""
    said = begun.json("manifest.json")
    facts = manifest._generator(said["rng"], "own", int(said["seed"]))
    return all_equal("manifest/run", facts, of="1 fact")


CHECKS: dict[str, Callable[[Updates], Finding]] = {
    "update/log": lambda u: update.log(update.replay_updates(u.followed, REPLAYED)),
    "update/moments": lambda u: update.moments(update.replay_updates(u.followed, REPLAYED)),
    "update/weights": lambda u: update.weights(update.replay_updates(u.followed, REPLAYED)),
    "update/schedule": lambda u: log_checks.schedule(
        [(u.followed.run, TrainingPlan.of(u.followed).settings)]
    ),
    "update/data": lambda u: log_checks.data([(u.followed.run, TrainingPlan.of(u.followed))]),
    "declared/rows": lambda u: rows_of(u.followed),
    "declared/masks": lambda u: masks_of(u.followed),
    "manifest/schema": lambda u: manifest.valid(u.begun),
    "manifest/machine": lambda u: manifest.machine(u.begun),
    "manifest/run": lambda u: generator_of(u.begun),
}
IN_ANY_CASE = ("tells_of_other_rows", "rate_of_the_next_update")
NEEDS_OTHER_RUNS = ("same_order_for_every_seed",)


def test_the_example_is_right(tmp_path):
    with session_of(graded_examples.EXAMPLES / EXAMPLE, tmp_path) as session:
        updates = train_updates(session)
        for name, check in CHECKS.items():
            found = check(updates)
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
        found = CHECKS[mistake.check](train_updates(session))
    assert not found.passed
    assert mistake.says in found.message
