"""Gate 2. Every step of the loop is the formula: updates are replayed by the oracles, from checkpoint to checkpoint."""

import pytest

from gates import jobs
from gates.judge import update
from gates.verdict.definition import CONTROLS, control


def controls(*checks: str) -> list[object]:
    """The controls of these checks, each with the job that it needs."""
    names = [c.name for c in CONTROLS if c.gate == "update" and c.check in checks]
    return [pytest.param(name, marks=pytest.mark.needs(f"control/{name}")) for name in names]


@pytest.fixture(scope="module")
def replayed(runs, site):
    """The replayed updates of the subject: of its followed run, and the first one with its default settings."""
    first = jobs.default_start(site, runs["updates"].begun, runs["resume/first-step"].run)
    return [
        *update.compare(first, (1,), story="default settings, "),
        *update.compare(runs["updates"].followed, jobs.REPLAYED),
    ]


@pytest.fixture(scope="module")
def followed(runs, site):
    """Both runs whose logs are read as a whole, with what they follow."""
    short, run = runs["updates"].followed, runs["committed"].run
    return [(short.run, short.course), (run, jobs.course_of(site, run))]


@pytest.mark.needs("updates", "resume/first-step")
def test_the_first_weights_follow_their_law(accept, runs):
    accept(update.init(runs["updates"].begun, runs["updates"].followed.run))


@pytest.mark.needs("updates", "resume/first-step")
@pytest.mark.parametrize("check", [update.log, update.moments, update.weights])
def test_replayed_updates_are_the_formula(accept, replayed, check):
    accept(check(replayed))


@pytest.mark.needs("updates", "committed")
def test_every_rate_is_that_of_the_schedule(accept, followed):
    accept(update.schedule([(run, course.settings) for run, course in followed]))


@pytest.mark.needs("updates", "committed")
def test_every_line_is_of_its_batch(accept, followed):
    accept(update.data(followed))


@pytest.mark.needs("updates")
def test_validation_losses_are_those_of_the_checkpoints(accept, runs):
    accept(update.evaluation(runs["updates"].followed, jobs.EVALUATED))


@pytest.mark.needs("updates", "committed")
def test_evaluations_and_checkpoints_happen_when_due(accept, followed):
    found = [update.cadence(run, course.settings) for run, course in followed]
    accept(next((f for f in found if not f.passed), found[0]))


@pytest.mark.needs("diverging")
def test_a_run_that_diverges_keeps_no_nan(accept, runs):
    accept(update.finite(*runs["diverging"]))


@pytest.mark.parametrize("name", controls("init"))
def test_refuses_first_weights_of_another_law(refuse, runs, name):
    refuse(name, update.init(*runs[f"control/{name}"]))


@pytest.mark.parametrize("name", controls(*jobs.CHECKS_REPLAYED))
def test_refuses_an_update_that_is_not_the_formula(refuse, runs, name):
    updates = jobs.CONTROL_REPLAYED.get(name, (2,))
    check = {"log": update.log, "moments": update.moments, "weights": update.weights}
    refuse(name, check[control(name).check](update.compare(runs[f"control/{name}"], updates)))


@pytest.mark.parametrize("name", controls("schedule"))
def test_refuses_rates_that_are_not_the_schedule(refuse, runs, name):
    followed = runs[f"control/{name}"]
    refuse(name, update.schedule([(followed.run, followed.course.settings)]))


@pytest.mark.parametrize("name", controls("data"))
def test_refuses_lines_of_other_batches(refuse, runs, name):
    followed = runs[f"control/{name}"]
    refuse(name, update.data([(followed.run, followed.course)]))


@pytest.mark.parametrize("name", controls("evaluation"))
def test_refuses_validation_losses_of_something_else(refuse, runs, name):
    followed = runs[f"control/{name}"]
    refuse(name, update.evaluation(followed, [len(followed.run.log)]))


@pytest.mark.parametrize("name", controls("cadence"))
def test_refuses_a_cadence_that_is_not_kept(refuse, runs, name):
    followed = runs[f"control/{name}"]
    refuse(name, update.cadence(followed.run, followed.course.settings))


@pytest.mark.parametrize("name", controls("finite"))
def test_refuses_a_loop_that_keeps_nan(refuse, runs, name):
    refuse(name, update.finite(*runs[f"control/{name}"]))
