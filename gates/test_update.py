"""Gate 2. Every step of the loop is the formula: updates are replayed by the oracles, from checkpoint to checkpoint."""

import pytest

from gates.control_parameters import control_parameters
from gates.judge import first_weights, log_checks, update
from gates.judge.run_record import TrainingPlan
from gates.subject.stepwise_runs import EVALUATED, REPLAYED, by_default
from gates.verdict.definition import control

CHECKS = {"log": update.log, "moments": update.moments, "weights": update.weights}


@pytest.fixture(scope="module")
def replayed(runs, session):
    """The replayed updates of the subject: of its followed run, and the first one with its default settings."""
    first = by_default(session, runs["resume/first-step"].run, runs["updates"].begun)
    return [
        *update.replay_updates(first, (1,), story="default settings, "),
        *update.replay_updates(runs["updates"].followed, REPLAYED),
    ]


@pytest.fixture(scope="module")
def followed(runs, session):
    """Both runs whose logs are read as a whole, with what they follow."""
    both = runs["updates"].followed, by_default(session, runs["committed"].run)
    return [(one.run, TrainingPlan.of(one)) for one in both]


@pytest.mark.needs("updates", "resume/first-step")
def test_the_first_weights_follow_their_law(accept, runs):
    accept(first_weights.init(runs["updates"].begun, runs["updates"].followed.run))


@pytest.mark.needs("updates", "resume/first-step")
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_replayed_updates_are_the_formula(accept, replayed, check):
    """The log's loss, gradient norm, rate, epoch and tokens; both moments of every parameter; every parameter."""
    accept(check(replayed))


@pytest.mark.needs("updates", "committed")
def test_every_rate_is_that_of_the_schedule(accept, followed):
    accept(log_checks.schedule([(run, plan.settings) for run, plan in followed]))


@pytest.mark.needs("updates", "committed")
def test_every_line_is_of_its_batch(accept, followed):
    accept(log_checks.data(followed))


@pytest.mark.needs("updates")
def test_validation_losses_are_those_of_the_checkpoints(accept, runs):
    accept(log_checks.evaluation(runs["updates"].followed, EVALUATED))


@pytest.mark.needs("updates", "committed")
def test_evaluations_and_checkpoints_happen_when_due(accept, followed):
    found = [log_checks.cadence(run, plan.settings) for run, plan in followed]
    accept(next((f for f in found if not f.passed), found[0]))


@pytest.mark.needs("diverging")
def test_a_run_that_diverges_keeps_no_nan(accept, runs):
    accept(log_checks.finite(*runs["diverging"]))


@pytest.mark.parametrize("name", control_parameters("update", "init"))
def test_refuses_first_weights_of_another_law(refuse, runs, name):
    refuse(name, first_weights.init(*runs[f"control/{name}"]))


@pytest.mark.parametrize("name", control_parameters("update", *CHECKS))
def test_refuses_an_update_that_is_not_the_formula(refuse, runs, name):
    wrong = control(name)
    refuse(name, CHECKS[wrong.check](update.replay_updates(runs[f"control/{name}"], wrong.replayed)))


@pytest.mark.parametrize("name", control_parameters("update", "schedule"))
def test_refuses_rates_that_are_not_the_schedule(refuse, runs, name):
    followed = runs[f"control/{name}"]
    refuse(name, log_checks.schedule([(followed.run, TrainingPlan.of(followed).settings)]))


@pytest.mark.parametrize("name", control_parameters("update", "data"))
def test_refuses_lines_of_other_batches(refuse, runs, name):
    followed = runs[f"control/{name}"]
    refuse(name, log_checks.data([(followed.run, TrainingPlan.of(followed))]))


@pytest.mark.parametrize("name", control_parameters("update", "evaluation"))
def test_refuses_validation_losses_of_something_else(refuse, runs, name):
    followed = runs[f"control/{name}"]
    refuse(name, log_checks.evaluation(followed, [len(followed.run.log)]))


@pytest.mark.parametrize("name", control_parameters("update", "cadence"))
def test_refuses_a_cadence_that_is_not_kept(refuse, runs, name):
    followed = runs[f"control/{name}"]
    refuse(name, log_checks.cadence(followed.run, TrainingPlan.of(followed).settings))


@pytest.mark.parametrize("name", control_parameters("update", "finite"))
def test_refuses_a_loop_that_keeps_nan(refuse, runs, name):
    refuse(name, log_checks.finite(*runs[f"control/{name}"]))
