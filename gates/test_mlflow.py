"""Gate 7. The MLflow run exists and holds what the run directory holds."""

import pytest

from gates.judge import tracking


@pytest.fixture(scope="module")
def tracked_run(runs):
    run = runs["committed"].run
    return run, tracking.read(run, tracking.DEFAULT_STORE)


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


@pytest.mark.needs("control/smooths_metrics")
def test_refuses_metrics_that_are_not_the_log(refuse, runs):
    run, uri = runs["control/smooths_metrics"]
    refuse("smooths_metrics", tracking.metrics_equal_the_log(run, tracking.read(run, uri)))
