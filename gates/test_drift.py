"""Gate 8. The report on low-precision drift exists, and every number in it is measured again."""

import pytest

from gates.control_parameters import control_parameters
from gates.judge import drift
from gates.judge.drift import Drift
from gates.verdict.definition import control

CHECKS = {"report": drift.report_exists, "errors": drift.errors_agree, "flips": drift.flips_agree}


@pytest.fixture(scope="module")
def measured(runs, session, scorer):
    run = runs["committed"].run
    return run, Drift(run.weights, scorer, session.committed["val"])


@pytest.mark.needs("committed")
def test_the_report_exists(accept, measured):
    accept(drift.report_exists(*measured))


@pytest.mark.needs("committed")
def test_its_errors_agree_with_a_recomputation(accept, measured):
    accept(drift.errors_agree(*measured))


@pytest.mark.needs("committed")
def test_its_argmax_flips_agree_with_a_recomputation(accept, measured):
    accept(drift.flips_agree(*measured))


@pytest.mark.parametrize("name", control_parameters("drift"))
def test_refuses_a_report_that_is_made_up(refuse, runs, session, scorer, name):
    run = runs[f"control/{name}"]
    refuse(name, CHECKS[control(name).check](run, Drift(run.weights, scorer, session.committed["val"])))
