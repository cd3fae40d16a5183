"""Checks of the resume gate: an interruption changes no byte, and a run is resumed from its newest whole checkpoint.

Of checkpoints that were tampered with: a subject that notices, and refuses to resume or takes an older checkpoint, is
right. One that goes on from a changed but consistent checkpoint as if it had not changed did not read it; one that goes
on from a corrupted one as if it were whole did not look.
"""

from collections.abc import Mapping, Sequence

from gates.errors import GateError
from gates.judge import first_difference
from gates.subject.interrupted_runs import KILL_EARLY, STEPS, STOPS, TERMINATE, Interrupted
from gates.subject.run_directory import RunDirectory
from gates.subject.tampering import Resumed
from gates.verdict.finding import Finding, Problem, no_problems

NONDETERMINISM = "nondeterminism, not a resume bug: the same run twice differs"


def identical(
    where: str,
    expected: RunDirectory,
    got: RunDirectory,
    *,
    story: str,
    resumed_at: int | None = None,
    after: int = 0,
    until: int | None = None,
    before: Sequence[Problem] = (),
) -> Finding:
    """Weights, moments, every state machine and every log line are there and equal, byte for byte.

    `before` are problems that were seen before the comparison. Judged are the steps after `after`, up to `until`;
    GateError if an earlier one differs, for all that follows from it does.
    """
    found = first_difference.between(expected, got, resumed_at=resumed_at)
    if found is not None and found.step <= after:
        raise GateError(f"{story}: the run differs from step {found.step} on, before this interruption")
    if found is not None and until is not None and found.step > until:
        found = None
    problems = [
        *before,
        *([] if found is None else [Problem(f"{story}: {found}", found.got, found.expected)]),
    ]
    for run in (expected, got):
        if lack := first_difference.missing_state(run):
            problems.append(Problem("a checkpoint is not whole", lack, "weights, moments and four machines"))
    of = f"{first_difference.compared_bytes(expected, got):,} bytes"
    return no_problems(where, problems, of=of, what="differ")


def rerun(first: RunDirectory, second: RunDirectory) -> Finding:
    """The same run twice is identical. Without that, no resume could be judged."""
    return identical("resume/rerun", first, second, story=NONDETERMINISM)


def resumed(name: str, reference: RunDirectory, interrupted: Interrupted) -> Finding:
    """The interrupted run has become the one that was not, and the process that was asked to end did so cleanly."""
    resumed_at = interrupted.resumed_at
    story = f"interrupted ({interrupted.how}), resumed after step {resumed_at}"
    ended = Problem(f"{interrupted.how}: the status it ended with", interrupted.status, 0)
    return identical(
        f"resume/{name}",
        reference,
        interrupted.run,
        story=story,
        resumed_at=resumed_at,
        after=interrupted.after,
        until=interrupted.until,
        before=[ended] if interrupted.status else [],
    )


def cuts(reference: RunDirectory, runs: Mapping[str, Interrupted]) -> Finding:
    """Each interruption fell where its name says; judged by the log of the run that was not interrupted."""
    epoch = [line["epoch"] for line in reference.log]
    rate = [line["lr"] for line in reference.log]
    mid, edge, warm = STOPS["mid-epoch"][0], STOPS["epoch-edge"][0], STOPS["warm-up"][0]
    early, late, term = (runs[name].stood[0] for name in ("kill-early", "kill-late", "terminate"))
    facts = {
        f"the run has {STEPS} steps": len(epoch) == STEPS,
        f"step {warm} is inside the warm-up: the rate still rises": rate[warm - 1] < rate[warm],
        f"step {mid} is inside an epoch": epoch[mid - 2] == epoch[mid - 1] == epoch[mid],
        f"step {edge} is the last of its epoch": epoch[edge - 1] + 1 == epoch[edge],
        "SIGKILL came before the first checkpoint": not early[1] and early[0] >= min(KILL_EARLY),
        "SIGKILL came after a checkpoint, and steps later": bool(late[1]) and late[0] > max(late[1]),
        "SIGTERM left a checkpoint of the last logged step": term[1][-1:] == [term[0]]
        and TERMINATE <= term[0] < STEPS,
    }
    wrong = [fact for fact, holds in facts.items() if not holds]
    standing = ", ".join(f"{name} {run.stood}" for name, run in runs.items())
    problems = [Problem(f"not so: {fact}", standing, fact) for fact in wrong]
    problems += [p for name, stops in STOPS.items() for p in _stopped(runs[name], stops)]
    return no_problems("resume/cuts", problems, of=f"{len(facts) + len(STOPS)} conditions")


def stops_when_told(interrupted: Interrupted, stops: tuple[int, ...]) -> Finding:
    """The part of `cuts` on one run that was told after which steps to stop."""
    return no_problems("resume/cuts", _stopped(interrupted, stops), of="1 condition")


def _stopped(interrupted: Interrupted, stops: tuple[int, ...]) -> list[Problem]:
    """It stood at each of the steps, with so many lines and with a checkpoint of that step."""
    fact = f"--stop-after {', '.join(map(str, stops))} left checkpoints there"
    stood = [(lines, max(steps, default=None)) for lines, steps in interrupted.stood]
    holds = stood == [(stop, stop) for stop in stops]
    return [] if holds else [Problem(f"not so: {fact}", interrupted.stood, fact)]


def changed_is_used(whole: RunDirectory, resumed: Resumed, at: int) -> Finding:
    """The steps after a changed checkpoint are not those of the run that was not changed."""
    lines = resumed.run.log_lines
    problems = []
    if resumed.finished.status == 0:
        if len(lines) <= at:
            problems.append(Problem("a resumed run made no step", f"{len(lines)} lines", f"more than {at}"))
        elif lines == whole.log_lines[: len(lines)]:
            story = f"resumed from a changed checkpoint of step {at}, yet the run is as if it had not changed"
            problems.append(Problem(story, "the checkpoint was not used", "steps that follow from it"))
    return no_problems("resume/used", problems, of=f"status {resumed.finished.status}, {len(lines)} lines")


def corrupted_is_not_used(whole: RunDirectory, resumed: Resumed, at: int) -> Finding:
    """No run goes on from a corrupted checkpoint: it is refused, or goes on from an older one to the same bytes."""
    problems = []
    if resumed.finished.status == 0:
        lines, expected = resumed.run.log_lines, whole.log_lines
        same = lines == expected[: len(lines)] and len(lines) > at
        found = None if same else first_difference.between(whole, resumed.run)
        if not same:
            story = f"resumed from a corrupted checkpoint of step {at}" + (f": {found}" if found else "")
            problems.append(Problem(story, "it was used as it is", "a refusal, or an older checkpoint"))
    return no_problems("resume/corrupted", problems, of=f"status {resumed.finished.status}")
