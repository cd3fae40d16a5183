"""One update of a run of level 2: two checkpoints, the line between them, and the tensors that can be judged."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.subject.recorded_directory import RecordedDirectory, Snapshot
from gates.verdict.finding import Problem
from reference.recovered_update import Tensor


@dataclass(frozen=True)
class RecordedUpdate:
    """An update with a checkpoint on both sides."""

    name: str
    """As messages call it: "update 7"."""
    before: Snapshot
    after: Snapshot
    line: Mapping[str, Any]
    made: int
    """How many updates were made up to it and with it, by the lines of the log that are not skipped."""
    other_rates: Mapping[str, float] = field(default_factory=dict)
    """What a wrong rate may be, in words -> rate: those of the lines around it."""

    @property
    def said_skipped(self) -> bool:
        """Whether the log says that this update was not made."""
        return self.line.get("skipped") is True

    @property
    def lr(self) -> float:
        """The rate that the line gives; NaN, with which nothing agrees, if it gives none."""
        said = self.line.get("lr")
        return float(said) if isinstance(said, int | float) else math.nan

    @property
    def t(self) -> int:
        """Which update it is, from 1: by the log; by the optimizer, if it counts on from another number."""
        before, after = self.before.t, self.after.t
        if before is not None and after is not None and after == before + 1 > 0:
            return after
        return max(self.made, 1)

    @property
    def nothing_changed(self) -> bool:
        """Whether every tensor is, byte for byte, what it was."""
        pairs = ((self.before.p, self.after.p), (self.before.m, self.after.m), (self.before.v, self.after.v))
        return all(a.keys() == b.keys() and all(_equal(x, b[n]) for n, x in a.items()) for a, b in pairs)

    def moment(self, kind: str, name: str) -> np.ndarray:
        """A moment before the update; 0 before the first one, for optimizers that make their state as they start."""
        kept: Mapping[str, np.ndarray] = getattr(self.before, kind)
        return kept.get(name, np.zeros_like(getattr(self.after, kind)[name]))


def updates_of(run: RecordedDirectory, story: str = "") -> Iterator[RecordedUpdate]:
    """Every update of a run that has a checkpoint on both sides, one after the other. `story` says which run it is."""
    steps = list(run.checkpoints())
    for step in steps:
        if step - 1 in steps:
            yield update_of(run, step, story)


def update_of(run: RecordedDirectory, step: int, story: str = "") -> RecordedUpdate:
    """The update of that step. GateError for a checkpoint that is missing or cannot be read."""
    lines = run.by_step
    made = sum(1 for s, line in lines.items() if s <= step and line.get("skipped") is not True)
    around = {"before": lines.get(step - 1), "after": lines.get(step + 1)}
    rates = {
        f"the rate of the update {where}": float(line["lr"])
        for where, line in around.items()
        if line is not None and isinstance(line.get("lr"), int | float)
    }
    line = lines.get(step, {})
    return RecordedUpdate(
        f"{story}update {step}", run.snapshot(step - 1), run.snapshot(step), line, made, rates
    )


def misplaced(declared: DeclaredOptimizer, update: RecordedUpdate) -> list[Problem]:
    """Tensors that are missing, or there for no reason, or of another shape or type than their parameter."""
    before, after = update.before, update.after
    found = [
        Problem(f"{update.name}: {name} is in one of the two checkpoints alone", "once", "in both")
        for name in sorted(before.p.keys() ^ after.p.keys())
    ]
    for name in sorted(before.p.keys() & after.p.keys()):
        found += _without_moments(declared, update, name)
    for kind in "mv":
        extra = sorted(getattr(after, kind).keys() - after.p.keys())
        found += [
            Problem(f"{update.name}: {kind} of {n} belongs to no parameter", "a moment", "none")
            for n in extra
        ]
    return found


def _without_moments(declared: DeclaredOptimizer, update: RecordedUpdate, name: str) -> list[Problem]:
    after, p = update.after, update.after.p[name]
    if update.before.p[name].shape != p.shape:
        return [Problem(f"{update.name}: {name} changes its shape", p.shape, update.before.p[name].shape)]
    if declared.is_frozen(name):
        same = _equal(update.before.p[name], p)
        return (
            []
            if same
            else [Problem(f"{update.name}: {name} is declared frozen and moves", "moved", "as it was")]
        )
    missing = [kind for kind in "mv" if name not in getattr(after, kind)]
    if update.made > 1:
        missing += [f"{kind} before the update" for kind in "mv" if name not in getattr(update.before, kind)]
    if missing:
        return [
            Problem(
                f"{update.name}: {name} has no {missing[0]}", "no tensor", "both moments of every parameter"
            )
        ]
    shapes = {kind: x.shape for kind in "mv" for x in (update.moment(kind, name), getattr(after, kind)[name])}
    wrong = [kind for kind, shape in shapes.items() if shape != p.shape]
    return [
        Problem(f"{update.name}: {kind} of {name}", f"shape {shapes[kind]}", f"{p.shape}") for kind in wrong
    ]


def judged_tensors(declared: DeclaredOptimizer, update: RecordedUpdate) -> dict[str, Tensor]:
    """The parameters that have all that an update is judged from, in a type that bounds are derived for."""
    found = {}
    for name, p1 in update.after.p.items():
        p = update.before.p.get(name)
        if (
            p is None
            or p.shape != p1.shape
            or declared.is_frozen(name)
            or _without_moments(declared, update, name)
        ):
            continue
        tensor = Tensor(p, p1, update.after.m[name], update.after.v[name])
        kinds = {x.dtype.itemsize for x in (p, p1, tensor.m1, tensor.v1)}
        if min(kinds) >= 4:
            found[name] = tensor
    return found


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
