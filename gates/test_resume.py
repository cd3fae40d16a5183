"""Gate 3. An interrupted and resumed run is, byte for byte, the run that was not interrupted."""

import pytest

from gates.control_parameters import control_parameters
from gates.errors import GateError
from gates.judge import resume
from gates.subject.interrupted_runs import KILLED, STOPS
from gates.subject.tampering import STOP
from gates.verdict.definition import control

INTERRUPTIONS = [*STOPS, *KILLED]


@pytest.mark.needs("resume", "resume/rerun")
def test_the_same_run_twice_is_identical(accept, runs):
    accept(resume.rerun(runs["resume"], runs["resume/rerun"]))


@pytest.mark.needs("resume", *(f"resume/{name}" for name in INTERRUPTIONS))
def test_interruptions_fall_where_they_claim_to(accept, runs):
    accept(resume.cuts(runs["resume"], {name: runs[f"resume/{name}"] for name in INTERRUPTIONS}))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.needs(f"resume/{n}")) for n in INTERRUPTIONS]
)
@pytest.mark.needs("resume", "resume/rerun")
def test_a_resumed_run_is_identical(accept, runs, name):
    """Stopped after the first step, inside the warm-up, in the middle of an epoch, at its edge, one step before the
    end, twice; killed at a random moment before the first checkpoint, or after one; ended by SIGTERM."""
    if not resume.rerun(runs["resume"], runs["resume/rerun"]).passed:
        raise GateError("two runs that were not interrupted differ already, so a resume cannot be judged")
    accept(resume.resumed(name, runs["resume"], runs[f"resume/{name}"]))


@pytest.mark.needs("tampered", "updates")
def test_a_resumed_run_goes_on_from_its_checkpoint(accept, runs):
    """A checkpoint with other weights in it changes what is resumed from it."""
    accept(resume.changed_is_used(runs["updates"].followed.run, runs["tampered"]["changed"], STOP))


@pytest.mark.needs("tampered", "updates")
def test_a_corrupted_checkpoint_is_not_resumed_from(accept, runs):
    accept(resume.corrupted_is_not_used(runs["updates"].followed.run, runs["tampered"]["corrupted"], STOP))


@pytest.mark.needs("control/nondeterministic")
def test_refuses_a_loop_that_is_not_deterministic(refuse, runs):
    refuse("nondeterministic", resume.rerun(*runs["control/nondeterministic"]))


@pytest.mark.parametrize("name", control_parameters("resume", "cuts"))
def test_refuses_a_loop_that_does_not_stop_when_told(refuse, runs, name):
    refuse(name, resume.stops_when_told(runs[f"control/{name}"], control(name).stops))


@pytest.mark.parametrize(
    "name",
    [
        *control_parameters("resume", "mid-epoch", run="stop and resume"),
        *control_parameters("resume", "kill-early", "kill-late", "terminate"),
    ],
)
@pytest.mark.needs("control-reference")
def test_refuses_a_resume_that_is_not_the_uninterrupted_run(refuse, runs, name):
    interrupted = runs[f"control/{name}"]
    refuse(name, resume.resumed(control(name).check, runs["control-reference"], interrupted))


@pytest.mark.parametrize("name", control_parameters("resume", run="follow and resume"))
def test_refuses_a_resume_that_changes_the_run(refuse, runs, name):
    refuse(name, resume.resumed(control(name).check, *runs[f"control/{name}"]))


@pytest.mark.parametrize("name", control_parameters("resume", "used"))
@pytest.mark.needs("control-followed")
def test_refuses_to_train_again_from_the_start(refuse, runs, name):
    whole = runs["control-followed"].run
    refuse(name, resume.changed_is_used(whole, runs[f"control/{name}"], STOP))


@pytest.mark.parametrize("name", control_parameters("resume", "corrupted"))
@pytest.mark.needs("control-followed")
def test_refuses_to_trust_a_corrupted_checkpoint(refuse, runs, name):
    whole = runs["control-followed"].run
    refuse(name, resume.corrupted_is_not_used(whole, runs[f"control/{name}"], STOP))
