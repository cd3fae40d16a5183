"""The runs of a subject of level 2: the judged one, a short one that saves every update, and updates made again.

An update is made again from a copy of the judged run that is cut back to the checkpoint before it, as if the run had
been stopped there: later checkpoints go, the log ends with the checkpoint's line, and of the other files stays what was
written before the checkpoint was (by its time stamp), and the manifest. Then the subject goes on to the update before,
and to the update: a stop always leaves a checkpoint, so that there is one on both sides. Updates before the first
checkpoint are made again from the beginning.

That is two processes an update. Where a process takes long to begin, updates that the short run has as well are left to
it.
"""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gates.errors import GateError
from gates.subject import audit_draw
from gates.subject.commanded import CommandedSubject
from gates.subject.guarded_copy import copy_tree
from gates.subject.offers import can_be_made_again
from gates.subject.recorded_directory import RecordedDirectory
from gates.subject.session import Session

SHORT = 14
"""Updates of the run that saves each."""
LONG = 2.0
"""Seconds: a judged run that takes longer is one whose processes take long to begin, or to train."""


@dataclass(frozen=True)
class JudgedRun:
    """The run that is judged, what it was told, and how long it took in seconds."""

    run: RecordedDirectory
    told: Mapping[str, Any]
    seconds: float
    again: "MadeAgain"


@dataclass(frozen=True)
class MadeAgain:
    """Updates of the judged run that were drawn, and made again."""

    drawn: Sequence[int]
    """Those that were made again."""
    special: Sequence[int]
    runs: Mapping[int, RecordedDirectory]
    """Update -> the run directory in which it was made again; the checkpoint before it is there if there was one."""
    since: Mapping[int, int]
    """Update -> the checkpoint from which it was made again."""
    in_short: Sequence[int] = ()
    """Those that were drawn too, and are judged in the short run alone."""


NOTHING_AGAIN = MadeAgain((), (), {}, {})
"""Of a subject that cannot be resumed, or not be stopped where it is told to."""


def train_judged(session: Session) -> JudgedRun:
    """The judged run, and then the updates that are drawn from it."""
    subject = session.commanded("record")
    began = time.monotonic()
    run = RecordedDirectory(subject.train("run"), session.description.run)
    seconds = time.monotonic() - began
    offered = subject.description.placeholders("train")
    short = SHORT if seconds > LONG and "checkpoint_every" in offered else 0
    if not can_be_made_again(session.description):
        return JudgedRun(run, told(subject), seconds, NOTHING_AGAIN)
    return JudgedRun(run, told(subject), seconds, _make_again(session, subject, run, short))


def train_stepwise(session: Session) -> RecordedDirectory | None:
    """The first updates of the same run, each saved; None if the command does not take {checkpoint_every}."""
    subject = session.commanded("stepwise")
    offered = subject.description.placeholders("train")
    if "checkpoint_every" not in offered:
        return None
    steps = min(SHORT, subject.description.run.steps)
    # The horizon stays that of the judged run wherever a run can be stopped before its end.
    stop: dict[str, Any] = {"stop_after": steps} if "stop_after" in offered else {"steps": steps}
    return RecordedDirectory(subject.train("run", checkpoint_every=1, **stop), session.description.run)


def told(subject: CommandedSubject) -> dict[str, Any]:
    """What the judged run was told, by the names of a manifest's `config`."""
    offered, run = subject.description.placeholders("train"), subject.description.run
    values = {"steps": run.steps, "checkpoint_every": run.checkpoint_every, "seed": run.seed}
    return {name: value for name, value in values.items() if name in offered}


def special_updates(run: RecordedDirectory) -> list[int]:
    """The last of the warm-up, the first of the last epoch that begins in the run, the last."""
    optimizer = run.config.get("optimizer", {})
    warmup = optimizer.get("warmup_steps") if isinstance(optimizer, dict) else None
    epochs = [(line.get("epoch"), number) for number, line in enumerate(run.log, 1)]
    edges = [now[1] for before, now in itertools.pairwise(epochs) if before[0] != now[0]]
    found = {warmup if isinstance(warmup, int) else 0, *edges[-1:], len(run.log)}
    return sorted(update for update in found if update > 0)


def _make_again(session: Session, subject: CommandedSubject, run: RecordedDirectory, short: int) -> MadeAgain:
    """Draw updates, and make those after the first `short` again."""
    steps, saved = len(run.log), list(run.checkpoints())
    special = special_updates(run)
    every = audit_draw.draw(session.chance("record/again"), steps, saved, special)
    drawn = [update for update in every if update > short]
    since = {update: audit_draw.checkpoint_before(update, saved) for update in drawn}
    runs = dict[int, RecordedDirectory]()
    for checkpoint in sorted(set(since.values())):
        updates = [update for update in drawn if since[update] == checkpoint]
        runs |= dict.fromkeys(updates, again(subject, run, checkpoint, updates))
    return MadeAgain(drawn, special, runs, since, every[: len(every) - len(drawn)])


def again(
    subject: CommandedSubject, run: RecordedDirectory, checkpoint: int, updates: Iterable[int]
) -> RecordedDirectory:
    """Make these updates again, from a checkpoint of the run or, if it is 0, from the beginning; where they are."""
    out = f"from-{checkpoint}"
    if checkpoint:
        cut(run, checkpoint, subject.home / out)
    at = checkpoint
    for update in updates:
        for stop in (update - 1, update):
            if stop > at:
                subject.train(out, resume=at > 0, stop_after=stop)
                at = stop
    return RecordedDirectory(subject.home / out, run.layout)


def cut(run: RecordedDirectory, checkpoint: int, to: Path) -> None:
    """Copy a run to `to` as it was when this checkpoint was written. GateError if there is no such checkpoint."""
    saved = run.checkpoints()
    if checkpoint not in saved:
        raise GateError(f"run directory: there is no checkpoint of step {checkpoint}")
    written = max(path.stat().st_mtime_ns for path in saved[checkpoint].rglob("*") if path.is_file())
    later = {folder for step, folder in saved.items() if step > checkpoint}
    kept = {run.path / run.layout.manifest, run.path / run.layout.log}

    def was_there(path: Path) -> bool:
        if path.is_symlink():
            return path.resolve() not in {folder.resolve() for folder in later}
        if path.is_dir():
            return path not in later
        inside = path in kept or path.is_relative_to(saved[checkpoint])
        return path.is_file() and (inside or path.stat().st_mtime_ns <= written)

    copy_tree(run.path, to, was_there)
    lines = [
        line for line, said in zip(run.log_lines, run.log, strict=True) if said.get("step", 0) <= checkpoint
    ]
    (to / run.layout.log).write_bytes(b"".join(line + b"\n" for line in lines))
