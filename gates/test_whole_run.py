"""Gate 3. The whole run is the formula: updates drawn from all of it are made again, and every number is recomputed."""

import pytest

from gates.control_parameters import control_parameters
from gates.judge import run_numbers, whole_run
from gates.judge.run_record import Settings, TrainingPlan
from gates.judge.scoring import ReferenceScorer
from gates.subject.controls import IMPL
from gates.subject.stepwise_runs import by_default
from honestloop.description import describe


@pytest.mark.needs("committed", "whole-run")
def test_resumed_lines_are_the_runs_own(accept, note, runs):
    audit = runs["whole-run"]
    note(f"audited updates: {', '.join(str(drawn.update) for drawn in audit.drawn)}")
    accept(whole_run.lines(audit))


@pytest.mark.needs("committed", "whole-run")
def test_the_optimizer_of_every_drawn_update_is_the_declared_one(accept, runs, session):
    audit = runs["whole-run"]
    accept(whole_run.optimizer(audit, Settings.read(audit.judged.config), session.description))


@pytest.mark.needs("committed", "whole-run")
def test_replayed_updates_are_the_formula(accept, runs, session):
    audit = runs["whole-run"]
    plan = TrainingPlan.of(by_default(session, audit.judged))
    accept(whole_run.replayed(whole_run.replay_drawn(audit, plan)))


@pytest.mark.needs("committed")
def test_every_evaluation_is_that_of_its_checkpoint(accept, runs, session, scorer):
    accept(run_numbers.evaluations(runs["committed"].run, scorer, session.committed["val"]))


@pytest.mark.needs("committed")
def test_totals_agree_with_the_log_and_with_a_clock_outside(accept, runs):
    accept(run_numbers.totals(runs["committed"].trained))


@pytest.mark.needs("micro-batches")
def test_batches_that_are_cut_into_parts_give_the_same_updates(accept, runs):
    accept(whole_run.micro_batches(runs["micro-batches"]))


@pytest.mark.parametrize("name", control_parameters("whole_run", "lines"))
def test_refuses_a_run_that_is_not_made_again(refuse, runs, name):
    refuse(name, whole_run.lines(runs[f"control/{name}"].audit))


@pytest.mark.parametrize("name", control_parameters("whole_run", "optimizer"))
def test_refuses_a_run_whose_optimizer_changes_later(refuse, runs, name):
    late = runs[f"control/{name}"]
    refuse(name, whole_run.optimizer(late.audit, Settings.read(late.followed.config), describe(IMPL)))


@pytest.mark.parametrize("name", control_parameters("whole_run", "replay"))
def test_refuses_a_run_that_leaves_the_formula_later(refuse, runs, name):
    late = runs[f"control/{name}"]
    refuse(name, whole_run.replayed(whole_run.replay_drawn(late.audit, TrainingPlan.of(late.followed))))


@pytest.mark.parametrize("name", control_parameters("whole_run", "evaluations"))
def test_refuses_evaluations_of_something_else(refuse, runs, name):
    followed = runs[f"control/{name}"]
    scorer = ReferenceScorer(followed.rows["train"])
    refuse(name, run_numbers.evaluations(followed.run, scorer, followed.rows["val"]))


@pytest.mark.parametrize("name", control_parameters("whole_run", "totals"))
def test_refuses_totals_that_cannot_be(refuse, runs, name):
    refuse(name, run_numbers.totals(runs[f"control/{name}"]))


@pytest.mark.parametrize("name", control_parameters("whole_run", "micro_batches"))
def test_refuses_parts_that_are_not_their_whole(refuse, runs, name):
    refuse(name, whole_run.micro_batches(runs[f"control/{name}"]))
