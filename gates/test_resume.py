"""Gate 3. An interrupted and resumed run is, byte for byte, the run that was not interrupted."""

import pytest

from gates.errors import GateError
from gates.jobs import CONTROL_STOP, FOLLOWED_STOP, STOPS, TORN_AT
from gates.judge import resume, torn
from gates.verdict.definition import CONTROLS, control

INTERRUPTIONS = [*STOPS, "kill-early", "kill-late", "terminate"]
FORGETFUL = ["forgets_model", "forgets_optimizer", "forgets_scheduler", "forgets_data", "forgets_control"]
FOLLOWED = [
    c.name
    for c in CONTROLS
    if c.gate == "resume" and c.check in ("mid-epoch", "twice") and c.name not in FORGETFUL
]


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


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.needs(f"control/{n}")) for n in FOLLOWED])
def test_refuses_a_resume_that_changes_the_run(refuse, runs, name):
    reference, run = runs[f"control/{name}"]
    where = f"resume/{control(name).check}"
    story = f"interrupted (stop {FOLLOWED_STOP})"
    refuse(name, resume.identical(where, reference, run, story=story, resumed_at=FOLLOWED_STOP))


@pytest.mark.needs("tampered", "updates")
def test_a_resumed_run_goes_on_from_its_checkpoint(accept, runs):
    accept(torn.used(runs["updates"].followed.run, runs["tampered"]["changed"], TORN_AT))


@pytest.mark.needs("tampered", "updates")
def test_a_torn_checkpoint_is_not_resumed_from(accept, runs):
    accept(torn.not_used(runs["updates"].followed.run, runs["tampered"]["torn"], TORN_AT))


@pytest.mark.needs("control/trains_again", "control-followed")
def test_refuses_to_train_again_from_the_start(refuse, runs):
    whole = runs["control-followed"].run
    refuse("trains_again", torn.used(whole, runs["control/trains_again"], TORN_AT))


@pytest.mark.needs("control/trusts_torn_checkpoint", "control-followed")
def test_refuses_to_trust_a_torn_checkpoint(refuse, runs):
    whole = runs["control-followed"].run
    resumed = runs["control/trusts_torn_checkpoint"]
    refuse("trusts_torn_checkpoint", torn.not_used(whole, resumed, TORN_AT))
