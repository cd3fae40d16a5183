"""Gate 2. An interrupted and resumed run is, byte for byte, the run that was not interrupted."""

import pytest

from gates import resume
from gates.finding import GateError
from gates.jobs import CONTROL_STOP, STOPS

INTERRUPTIONS = [*STOPS, "kill-early", "kill-late", "terminate"]
FORGETFUL = ["forgets_model", "forgets_optimizer", "forgets_scheduler", "forgets_data", "forgets_control"]


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
    if not resume.rerun(runs["resume"], runs["resume/rerun"]).passed:
        raise GateError("two runs that were not interrupted differ already, so a resume cannot be judged")
    accept(resume.resumed(name, runs["resume"], runs[f"resume/{name}"]))


@pytest.mark.needs("control/nondeterministic")
def test_refuses_a_loop_that_is_not_deterministic(refuse, runs):
    refuse("nondeterministic", resume.rerun(*runs["control/nondeterministic"]))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.needs(f"control/{n}")) for n in FORGETFUL]
)
@pytest.mark.needs("control-reference")
def test_refuses_a_checkpoint_that_forgets_a_state_machine(refuse, runs, name):
    reference, run = runs["control-reference"], runs[f"control/{name}"]
    story = f"interrupted (stop {CONTROL_STOP})"
    refuse(name, resume.identical("resume/mid-epoch", reference, run, story=story, resumed_at=CONTROL_STOP))
