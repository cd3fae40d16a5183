"""The record of a run: every number of its log, and every update between two checkpoints, judged without the model."""

import pytest

from gates.judge import made_again, optimizer_audit, recorded_log, recorded_run
from gates.judge.audited_update import audit
from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.judge.recorded_update import updates_of
from reference.arithmetic import DOUBLE, SINGLE


@pytest.fixture(scope="module")
def declared(runs, session):
    """The optimizer that the judged run declares."""
    judged = runs["record/judged"]
    return DeclaredOptimizer.read(session.description, judged.run.config, len(judged.run.log))


@pytest.fixture(scope="module")
def again(runs, declared):
    """The drawn updates of the judged run, judged."""
    return made_again.audited_again(declared, runs["record/judged"].again)


@pytest.fixture(scope="module")
def audited(runs, declared, again):
    """Updates of the run that saves each; of the judged run, those between neighbouring checkpoints."""
    short = runs["record/stepwise"]
    found = [] if short is None else list(updates_of(short))
    found += updates_of(runs["record/judged"].run, story="judged run, ")
    return [audit(declared, update) for update in found] or again


@pytest.fixture(scope="module")
def logs(runs):
    """The run directories that have a log of the same run: the judged one and the short one."""
    return [run for run in (runs["record/judged"].run, runs["record/stepwise"]) if run is not None]


def facts(judged):
    """What the log is judged by: its length, its precision, the number of parameters."""
    run = judged.run
    steps = judged.told.get("steps", len(run.log))
    weights = run.snapshot(max(run.checkpoints(), default=0)).p.values()
    single = any(x.dtype.itemsize < 8 for x in weights)
    return recorded_log.LogFacts(steps, SINGLE if single else DOUBLE, sum(x.size for x in weights))


@pytest.mark.needs("record/judged")
def test_every_number_of_the_log_follows_from_the_others(accept, runs):
    accept(recorded_log.log(runs["record/judged"].run, facts(runs["record/judged"])))


@pytest.mark.needs("record/judged", "record/stepwise")
def test_every_rate_is_that_of_the_schedule(accept, declared, logs):
    accept(recorded_run.schedule(declared, [run.log for run in logs]))


@pytest.mark.needs("record/judged")
def test_the_manifest_says_what_the_run_was_told(accept, runs, session):
    judged = runs["record/judged"]
    accept(recorded_run.declared(session.description, judged.run, judged.told))


@pytest.mark.needs("record/judged", "record/stepwise")
@pytest.mark.parametrize("check", optimizer_audit.CHECKS.values(), ids=optimizer_audit.CHECKS)
def test_every_update_is_the_declared_one(accept, audited, check):
    """Tensors, second moment, weights, decay, rate, norm, precision."""
    accept(check(audited))


@pytest.mark.needs("record/judged", "record/stepwise")
def test_skipped_updates_are_said_to_be_and_few(accept, runs, declared, audited):
    accept(optimizer_audit.skipped(declared, audited, runs["record/judged"].run.log))


@pytest.mark.needs("record/judged")
def test_evaluations_and_checkpoints_happen_when_due(accept, runs):
    judged = runs["record/judged"]
    accept(recorded_run.cadence(judged.run, judged.told.get("checkpoint_every")))


@pytest.mark.needs("record/judged", "record/stepwise")
def test_nothing_that_is_not_finite_is_kept(accept, logs):
    accept(recorded_run.finite(logs))


@pytest.mark.needs("record/judged")
def test_drawn_updates_made_again_have_the_runs_own_lines(accept, runs):
    judged = runs["record/judged"]
    accept(made_again.own_line(judged.run, judged.again))


@pytest.mark.needs("record/judged")
def test_drawn_updates_of_the_whole_run_are_the_declared_ones(accept, runs, again):
    judged = runs["record/judged"]
    said = made_again.chance(len(judged.run.log), list(judged.run.checkpoints()), judged.again.special)
    accept(optimizer_audit.late(again, said))
