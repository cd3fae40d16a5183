"""Gate 7. The MLflow run exists and holds what the run directory holds."""

import pytest

from gates.control_parameters import control_parameters
from gates.judge import tracking
from gates.verdict.definition import control

CHECKS = {
    "run": tracking.run_exists,
    "metrics": tracking.metrics_equal_the_log,
    "parameters": tracking.parameters_equal_the_configuration,
    "artefacts": tracking.artefacts_equal_the_files,
}


@pytest.fixture(scope="module")
def tracked_run(runs, session):
    run = runs["committed"].run
    return run, tracking.read(run, tracking.DEFAULT_STORE, session.description.folder)


@pytest.mark.needs("committed")
def test_one_finished_run_is_in_the_store(accept, tracked_run):
    accept(tracking.run_exists(*tracked_run))


@pytest.mark.needs("committed")
def test_its_metrics_equal_the_log(accept, tracked_run):
    accept(tracking.metrics_equal_the_log(*tracked_run))


@pytest.mark.needs("committed")
def test_its_parameters_equal_the_configuration(accept, tracked_run):
    accept(tracking.parameters_equal_the_configuration(*tracked_run))


@pytest.mark.needs("committed")
def test_its_artefacts_equal_the_files(accept, tracked_run):
    accept(tracking.artefacts_equal_the_files(*tracked_run))


@pytest.mark.parametrize("name", control_parameters("mlflow"))
def test_refuses_a_store_that_does_not_hold_the_run(refuse, runs, name):
    run, uri = runs[f"control/{name}"]
    refuse(name, CHECKS[control(name).check](run, tracking.read(run, uri)))
