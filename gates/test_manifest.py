"""Gate 6. The manifest is valid, true, and older than the first step."""

import pytest

from fixtures.corpus.files import COMMITTED
from gates.control_parameters import control_parameters
from gates.judge import manifest as truth
from gates.subject.git import git_state
from gates.verdict.definition import control

CHECKS = {
    "schema": truth.valid,
    "hashes": lambda run: truth.hashes(run, COMMITTED),
    "git": lambda run: truth.git(run, [git_state()]),
    "packages": truth.packages,
    "machine": truth.machine,
}


@pytest.fixture
def trained(runs):
    return runs["committed"].trained


@pytest.mark.needs("committed")
def test_the_manifest_is_valid_by_its_schema(accept, trained):
    accept(truth.valid(trained.run))


@pytest.mark.needs("committed")
def test_its_hashes_are_right(accept, trained):
    accept(truth.hashes(trained.run, trained.data))


@pytest.mark.needs("committed")
def test_its_commit_is_the_one_checked_out(accept, trained):
    accept(truth.git(trained.run, trained.git))


@pytest.mark.needs("committed")
def test_its_versions_are_the_installed_ones(accept, trained):
    accept(truth.packages(trained.run))


@pytest.mark.needs("committed")
def test_its_machine_is_this_one(accept, trained):
    accept(truth.machine(trained.run))


@pytest.mark.needs("committed")
def test_it_tells_what_was_run(accept, trained, session):
    accept(truth.run_facts(trained, session.description.conventions.generator))


@pytest.mark.needs("committed", "manifest")
def test_it_was_written_before_the_first_step(accept, trained, runs):
    accept(truth.written_first(trained, runs["manifest"]))


@pytest.mark.needs("control/manifest_last", "control/wrong_commit")
def test_refuses_a_manifest_written_after_training(refuse, runs):
    fields = runs["control/wrong_commit"].json("manifest.json").keys()
    refuse("manifest_last", truth.written_when_killed(runs["control/manifest_last"], fields))


@pytest.mark.parametrize("name", control_parameters("manifest", *CHECKS))
def test_refuses_a_manifest_that_is_not_true(refuse, runs, name):
    refuse(name, CHECKS[control(name).check](runs[f"control/{name}"]))


@pytest.mark.parametrize("name", control_parameters("manifest", "run"))
def test_refuses_a_manifest_of_another_start(refuse, runs, name):
    refuse(name, truth.run_facts(runs[f"control/{name}"]))
