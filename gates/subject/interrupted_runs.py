"""Runs that are interrupted and resumed: stopped when told to, killed at a random moment, ended by SIGTERM.

Every process takes its time to start, so one run is interrupted several times, at places that are far apart: what
follows an interruption, up to the next, is the work of its resume and of nothing else. The runs are compared with one
that was not interrupted, and a difference is the fault of the resume that made the step.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gates.errors import GateError
from gates.subject.process import Subject
from gates.subject.run_directory import RunDirectory
from gates.subject.session import Session

# 12 batches of 32 make an epoch of the committed corpus; the warm-up takes 50 steps; the first checkpoint that is not
# asked for is at 50. The check "cuts" verifies that the interruptions fall where their names say.
STEPS = 72
OPTIONS = ("--steps", str(STEPS))
CHAINS: tuple[Mapping[str, int], ...] = (
    {"first-step": 1, "mid-epoch": 18, "last-step": STEPS - 1},
    {"warm-up": 5, "epoch-edge": 24},
)
"""The runs that are stopped: after which steps, and what is there."""
TWICE = "twice"
"""The second of them as a whole: each of its two resumes goes on for more than an epoch."""
STOPS: Mapping[str, tuple[int, ...]] = {
    **{name: (stop,) for chain in CHAINS for name, stop in chain.items()},
    TWICE: tuple(CHAINS[1].values()),
}
KILL_EARLY, TERMINATE, KILL_LATE = range(3, 30), 33, range(52, 68)  # numbers of log lines
KILLED = ("kill-early", "terminate", "kill-late")
"""The run that is killed before its first checkpoint, ended by SIGTERM, and killed after a checkpoint."""
KILL_ATTEMPTS = 5


@dataclass(frozen=True)
class Interrupted:
    """A run that was interrupted, and where it stood each time: (lines in the log, steps of its checkpoints)."""

    run: RunDirectory
    stood: list[tuple[int, list[int]]]
    how: str
    status: int = 0
    """With which the process ended that was asked to end."""
    after: int = 0
    """The steps up to this one are the work of an earlier resume of the same run."""
    until: int | None = None
    """The steps beyond this one are the work of a later one."""

    @property
    def resumed_at(self) -> int:
        """The step of the checkpoint that the last resume began with."""
        return max(self.stood[-1][1], default=0)


def links(run: RunDirectory, interruptions: Mapping[str, tuple[Any, str, int]]) -> dict[str, Interrupted]:
    """The interruptions of one run, in order, by name, from (where it stood, how, status) of each."""
    found = dict[str, Interrupted]()
    resumed_at = [max(stood[1], default=0) for stood, _, _ in interruptions.values()]
    for number, (name, (stood, how, status)) in enumerate(interruptions.items()):
        after = resumed_at[number] if number else 0
        until = resumed_at[number + 1] if number + 1 < len(resumed_at) else None
        found[name] = Interrupted(run, [stood], how, status, after, until)
    return found


def stop_often(session: Session, name: str, stops: Mapping[str, int]) -> dict[str, Interrupted]:
    """One run of the subject that is stopped after each of the steps and resumed each time, by a fresh process.

    By name, and as a whole (TWICE). How it begins is not what is judged: a warm process may do it.
    """
    subject, warm = (made(session.subject, name) for made in (session.untracked, session.warm))
    found: dict[str, tuple[Any, str, int]] = {}
    for number, (link, stop) in enumerate(stops.items()):
        starting, again = (subject, ("--resume",)) if number else (warm, ())
        stood = _stands(starting.train(*OPTIONS, *again, "--stop-after", str(stop)))
        found[link] = stood, f"stop {stop}", 0
    run = subject.train(*OPTIONS, "--resume")
    how = " and ".join(how for _, how, _ in found.values())
    whole = Interrupted(run, [stood for stood, _, _ in found.values()], how)
    return links(run, found) | {TWICE: whole}


def kill_often(session: Session, module: str, name: str) -> dict[str, Any]:
    """One run that gets SIGKILL, SIGTERM and SIGKILL, and is resumed each time; by the names of KILLED.

    Under "manifest" it is as it was after the first.
    """
    chance = session.chance(name)
    for attempt in range(KILL_ATTEMPTS):
        subject = session.untracked(module, f"{name}-{attempt}")
        early, late = chance.choice(KILL_EARLY), chance.choice(KILL_LATE)
        run, found = RunDirectory(subject.home / "run"), dict[str, tuple[Any, str, int]]()
        if (stood := _kill(subject, early, KILL_EARLY)) is None:
            continue
        found["kill-early"] = stood, f"SIGKILL at line {early}", 0
        killed = run.copy_to(subject.home / "killed")
        ended = subject.interrupt(signal.SIGTERM, TERMINATE, *OPTIONS, "--resume")
        if ended is None:
            raise GateError(f"the run had ended before SIGTERM at step {TERMINATE}")
        found["terminate"] = _stands(run), f"SIGTERM at line {TERMINATE}", ended.status
        if (stood := _kill(subject, late, KILL_LATE, "--resume")) is None:
            continue
        found["kill-late"] = stood, f"SIGKILL at line {late}", 0
        return {**links(subject.train(*OPTIONS, "--resume"), found), "manifest": killed}
    windows = " or ".join(f"{w.start} to {w.stop}" for w in (KILL_EARLY, KILL_LATE))
    raise GateError(f"{KILL_ATTEMPTS} times the run had left steps {windows} before the signal")


def _kill(subject: Subject, lines: int, window: range, *options: str) -> tuple[int, list[int]] | None:
    """Where a run stands after SIGKILL; None if it was too fast for the signal."""
    finished = subject.interrupt(signal.SIGKILL, lines, *OPTIONS, *options)
    stood = _stands(RunDirectory(subject.home / "run"))
    too_late = finished is None or finished.status != -signal.SIGKILL or stood[0] > window.stop
    return None if too_late else stood


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
        if (stood := _kill(subject, lines, window)) is not None:
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
