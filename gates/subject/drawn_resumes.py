"""The judged run, audited: drawn updates of it are made again, each from the run's own checkpoint before it.

A copy of the run is cut back to what it was at that checkpoint and resumed, with stops right before and right after
each drawn update, so that there is a state on both sides of it. Where the judged run has such a state itself, that one
is taken: at its own checkpoints it is the run, not the copy, that is looked at.
"""

import math
import random
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtures.corpus.conjugation import Row
from gates.errors import GateError
from gates.subject.audit_draw import checkpoint_before, draw
from gates.subject.guarded_copy import copy_tree
from gates.subject.process import Subject
from gates.subject.run_directory import LOG, RunDirectory
from gates.subject.session import Session

REPLAYED = 8
"""So many of the drawn updates, at least, are replayed by the oracles."""
FRESH = 1
"""Beside the first and the last two checkpoints, so many that a fresh process goes on from are drawn."""
LINES = 2
"""So many, at least, are logged after a cut: wrongly saved weights show in the first, moments in the second."""


@dataclass(frozen=True)
class Drawn:
    """A drawn update, and who has a checkpoint of the step before it, and of its own: the judged run or its copy."""

    update: int
    before: RunDirectory
    after: RunDirectory


@dataclass(frozen=True)
class Audit:
    """What the drawn updates were made again from, and what became of it."""

    judged: RunDirectory
    drawn: tuple[Drawn, ...]
    replayed: tuple[int, ...]
    """The drawn updates that are replayed by the oracles."""
    resumed: Mapping[int, RunDirectory]
    """Step of the checkpoint that was gone on from -> the copy, as its last stop has left it."""


def audit(session: Session, judged: RunDirectory) -> Audit:
    """Draw updates of the run that is judged and make them again. GateError if that cannot be done."""
    chance = session.chance("audit")
    updates, special = draw_updates(chance, judged, session.committed["train"])
    subject, warm = (start(session.subject, "whole-run") for start in (session.untracked, session.warm))
    saved = [step for step in judged.checkpoints() if step]
    fresh = {*saved[:1], *saved[-2:], *chance.sample(saved, min(FRESH, len(saved)))}
    return resume_drawn(subject, judged, updates, spread(updates, special), warm=warm, fresh=fresh)


def draw_updates(
    chance: random.Random, run: RunDirectory, rows: Sequence[Row]
) -> tuple[list[int], list[int]]:
    """The updates to audit, one of every stretch between two checkpoints at least; and those that are always drawn."""
    try:
        said = tomllib.loads(run.config)
        steps, batch, warmup = said["steps"], said["batch_size"], said["optimizer"]["warmup_steps"]
        special = special_updates(chance, steps, warmup, math.ceil(2 * len(rows) / batch))
    except (KeyError, TypeError, ValueError) as error:
        raise GateError(f"run directory: config.toml: {error!r}") from None
    return draw(chance, steps, run.checkpoints(), special, REPLAYED), special


def special_updates(chance: random.Random, steps: int, warmup: int, epoch: int) -> list[int]:
    """The last of the warm-up, the last; the last of an epoch after the second and the first after it.

    `epoch` is the number of updates of one. Its last batch is a short one, if any is. Which epoch it is is drawn.
    """
    whole = steps // epoch
    edges = [chance.randint(min(3, whole), whole) * epoch] if whole else []
    found = {warmup, steps, *edges, *(edge + 1 for edge in edges)}
    return sorted(update for update in found if 1 <= update <= steps)


def spread(drawn: Sequence[int], special: Iterable[int], at_least: int = REPLAYED) -> tuple[int, ...]:
    """So many of the drawn updates, if there are as many: the special ones, and others all over the run."""
    chosen = set(special) & set(drawn)
    others = [update for update in drawn if update not in chosen]
    missing = min(max(at_least - len(chosen), 0), len(others))
    return tuple(
        sorted(chosen | {others[(2 * i + 1) * len(others) // (2 * missing)] for i in range(missing)})
    )


def resume_drawn(
    subject: Subject,
    judged: RunDirectory,
    updates: Sequence[int],
    replayed: tuple[int, ...],
    *options: str,
    warm: Subject | None = None,
    fresh: Collection[int] = (),
) -> Audit:
    """Make these updates again. `options` are those that the judged run was started with.

    From the checkpoints of the steps in `fresh` a fresh process goes on; all else a `warm` one may do, if the subject
    has one. It has held the state of other steps and other copies by then: what it does not load is wrong.
    """
    saved = [step for step in judged.checkpoints() if step]
    groups: dict[int, list[int]] = {0: []}
    for update in updates:
        groups.setdefault(checkpoint_before(update, saved), []).append(update)
    copies: dict[int, RunDirectory] = {}
    kept: set[str] = set()
    for at, group in sorted(groups.items()):
        if at:
            cut_back(judged, at, subject.home / f"from-{at}", kept)
        for stop in _stops(at, group, saved) if group else [0]:
            again = ("--resume",) if (subject.home / f"from-{at}").exists() else ()
            process = warm if warm and (at not in fresh or at in copies) else subject
            copies[at] = process.train(*options, *again, "--stop-after", str(stop), out=f"from-{at}")
        kept = kept or {path.name for path in copies[0].path.iterdir()}  # what a run has before its end
    drawn = [
        Drawn(
            update,
            judged if update - 1 in saved else copies[checkpoint_before(update, saved)],
            judged if update in saved else copies[checkpoint_before(update, saved)],
        )
        for update in updates
    ]
    return Audit(judged, tuple(drawn), replayed, {at: copies[at] for at, group in groups.items() if group})


def _stops(at: int, group: Sequence[int], saved: Sequence[int]) -> Iterator[int]:
    """Where a run that goes on from the checkpoint of step `at` must stop, in order."""
    stops = {step for update in group for step in (update - 1, update)} - set(saved)
    if max(stops, default=at) < at + LINES and at + LINES not in saved:
        stops.add(at + LINES)
    yield from sorted(stops)


def cut_back(run: RunDirectory, at: int, copy: Path, kept: Iterable[str]) -> None:
    """Copy a run as it was at its checkpoint of step `at`: no later line, no other checkpoint, no end.

    `kept` are the names that a run has at its top before it ends.
    """
    folder = run.checkpoints()[at]
    copy_tree(run.path / folder, copy / folder)
    for name in kept:
        path = run.path / name
        if path.is_dir() and name not in folder:
            copy_tree(path, copy / name)
        elif path.is_file():
            (copy / name).write_bytes(run.read(name))
    (copy / LOG).write_bytes(b"".join(line + b"\n" for line in run.log_lines[:at]))
