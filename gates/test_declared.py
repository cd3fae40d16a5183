"""Gate of loops with their own generator: what they declare is what it must be. That it is true, the replays show."""

import pytest

from gates.judge import declared_masks, declared_rows
from gates.judge.declared_masks import Asked
from gates.judge.run_record import TrainingPlan
from gates.subject.stepwise_runs import by_default

# Updates of a run with the defaults: neighbours, an epoch apart, an evaluation and a checkpoint apart.
DEFAULT_UPDATES = (1, 2, 13, 14, 51, 52)


@pytest.fixture(scope="module")
def plans(runs, session):
    """Name -> what the updates of a run followed."""
    default = {
        "the run": runs["committed"].run,
        "a shorter run": runs["resume"],
        "a run with another seed": runs["guarded"][0],
    }
    found = {name: TrainingPlan.of(by_default(session, run)) for name, run in default.items()}
    return found | {"a followed run": TrainingPlan.of(runs["updates"].followed)}


@pytest.mark.needs("committed", "resume", "guarded", "updates")
def test_declared_rows_are_shuffles(accept, plans):
    runs = {name: (plan.run, plan) for name, plan in plans.items()}
    same, other = ("the run", "a shorter run"), ("the run", "a run with another seed")
    accept(declared_rows.rows(runs, same, other))


@pytest.mark.needs("committed", "resume", "guarded", "updates")
def test_declared_masks_are_independent_draws(accept, plans):
    run, again = plans["the run"], plans["a shorter run"]
    default = Asked("the run", run, DEFAULT_UPDATES, again.masks)
    short = plans["a followed run"]
    followed = Asked("a followed run", short, tuple(range(1, short.settings.steps + 1)))
    other = Asked("a run with another seed", plans["a run with another seed"], (1,))
    accept(declared_masks.masks([default, followed], (default, other)))
