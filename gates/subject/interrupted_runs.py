"""Runs that are interrupted and resumed: stopped when told to, killed at a random moment, ended by SIGTERM."""

import signal
from dataclasses import dataclass

from gates.errors import GateError
from gates.subject.process import Subject
from gates.subject.run_directory import RunDirectory
from gates.subject.session import Session

# 12 batches of 32 make an epoch of the committed corpus; the warm-up takes 50 steps; the first checkpoint that is not
# asked for is at 50. The check "cuts" verifies that the interruptions fall where their names say.
STEPS = 72
OPTIONS = ("--steps", str(STEPS))
STOPS = {
    "first-step": (1,),
    "warm-up": (5,),
    "mid-epoch": (18,),
    "epoch-edge": (24,),
    "last-step": (STEPS - 1,),
    "twice": (7, 30),
}
KILL_EARLY, KILL_LATE, TERMINATE = range(3, 46), range(52, 68), 33  # numbers of log lines
KILL_ATTEMPTS = 5


@dataclass(frozen=True)
class Interrupted:
    """A run that was interrupted, and where it stood each time: (lines in the log, steps of its checkpoints)."""

    run: RunDirectory
    stood: list[tuple[int, list[int]]]
    how: str
    status: int = 0
    """With which the process ended that was asked to end."""


def stop_and_resume(
    subject: Subject, stops: tuple[int, ...], options: tuple[str, ...], *end: str
) -> Interrupted:
    """Stop after each of the steps, then go on to the end."""
    stood = []
    for number, stop in enumerate(stops):
        again = ("--resume",) if number else ()
        stood.append(_stands(subject.train(*options, *again, "--stop-after", str(stop))))
    how = " and ".join(f"stop {stop}" for stop in stops)
    return Interrupted(subject.train(*options, "--resume", *end), stood, how)


def kill_and_resume(session: Session, module: str, name: str, window: range, *end: str) -> Interrupted:
    """SIGKILL at a random moment inside a window of log lines, then go on to the end."""
    chance = session.chance(name)
    for attempt in range(KILL_ATTEMPTS):
        lines = chance.choice(window)
        subject = session.untracked(module, f"{name}-{attempt}")
        finished = subject.interrupt(signal.SIGKILL, lines, *OPTIONS)
        stood = _stands(RunDirectory(subject.home / "run"))
        if finished is not None and finished.status == -signal.SIGKILL and stood[0] <= window.stop:
            run = subject.train(*OPTIONS, "--resume", *end)
            return Interrupted(run, [stood], f"SIGKILL at line {lines}")
    raise GateError(
        f"{KILL_ATTEMPTS} times the run had left steps {window.start} to {window.stop} before the signal"
    )


def terminate_and_resume(subject: Subject, lines: int, *end: str) -> Interrupted:
    """SIGTERM once the log has that many lines, then go on to the end."""
    finished = subject.interrupt(signal.SIGTERM, lines, *OPTIONS)
    if finished is None:
        raise GateError(f"the run had ended before SIGTERM at step {lines}")
    stood = [_stands(RunDirectory(subject.home / "run"))]
    run = subject.train(*OPTIONS, "--resume", *end)
    return Interrupted(run, stood, f"SIGTERM at line {lines}", finished.status)


def _stands(run: RunDirectory) -> tuple[int, list[int]]:
    return run.logged_steps(), list(run.checkpoints())
