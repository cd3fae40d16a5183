"""Gate of levels 1 to 3. A run that is interrupted, in whatever way and moment, is resumed to the run that was not."""

import pytest

from gates.errors import GateError
from gates.judge import interruption


@pytest.fixture
def may_differ(session):
    """What the subject declares to differ between equal runs."""
    return session.description.run.may_differ


@pytest.fixture
def judgeable(runs, may_differ):
    """A run that can be compared with another: the same run twice is equal."""
    finding = interruption.rerun(runs["interruption/rerun"], may_differ)
    if not finding.passed:
        raise GateError(
            f"the same run twice differs already, so a resume cannot be judged ({finding.problem})"
        )


@pytest.mark.needs("interruption", "interruption/rerun")
def test_the_same_run_twice_is_identical(accept, runs, may_differ):
    accept(interruption.rerun(runs["interruption/rerun"], may_differ))


@pytest.mark.needs("interruption")
def test_what_a_run_leaves_is_no_pickle(accept, runs):
    accept(interruption.pickle(runs["interruption"].run))


@pytest.mark.establishes("stop")
@pytest.mark.needs("interruption/rerun", "interruption/stop")
def test_a_run_that_is_told_to_stop_stops_and_goes_on(accept, runs, may_differ, judgeable):
    accept(interruption.stop(runs["interruption/stop"], may_differ))


@pytest.mark.establishes("terminate")
@pytest.mark.needs("interruption/rerun", "interruption/terminate")
def test_sigterm_ends_a_run_that_then_goes_on(accept, runs, may_differ, judgeable):
    accept(interruption.terminate(runs["interruption/terminate"], may_differ))


@pytest.mark.establishes("kill")
@pytest.mark.needs("interruption/rerun", "interruption/kill")
def test_a_run_that_is_killed_at_a_random_moment_goes_on(accept, runs, may_differ, judgeable):
    """Twice: in the first half of the run, and in the second."""
    accept(interruption.kill(runs["interruption/kill"], may_differ))


@pytest.mark.establishes("events")
@pytest.mark.needs("interruption/rerun", "interruption/events")
def test_a_run_that_is_killed_at_any_file_event_goes_on(accept, runs, may_differ, judgeable):
    accept(interruption.events(runs["interruption/events"], may_differ))
