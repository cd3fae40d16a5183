"""Checks of the update gate: each step of the loop is the formula, and the log tells the truth about it.

A replayed update is read (run_record.py), replayed by the oracles (replay.py), compared (within_bounds.py) and,
if it is wrong, named (known_mistakes.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gates.judge.known_mistakes import name_mistake
from gates.judge.replay import After, replay
from gates.judge.run_record import State, TrainingPlan, logged, state
from gates.judge.within_bounds import Comparison, compare
from gates.subject.stepwise_runs import ConfiguredRun
from gates.verdict.finding import Finding, Problem, no_problems
from reference.bounds import Agreement


@dataclass(frozen=True)
class Replayed:
    """One update against its replay."""

    name: str
    found: Comparison
    mistake: str
    """What a wrong update behaves like, in words; "" if it is right, or like nothing we know."""


def replay_updates(followed: ConfiguredRun, updates: Iterable[int], story: str = "") -> list[Replayed]:
    """Replay these updates, each from the checkpoint before it. `story` says which run it is."""
    plan = TrainingPlan.of(followed)
    return [_replay(plan, followed, update, story) for update in updates]


def _replay(plan: TrainingPlan, followed: ConfiguredRun, update: int, story: str) -> Replayed:
    before, left = state(followed, update - 1), state(followed, update)
    expected = replay(plan, update, before)
    return judge(plan, update, before, left, expected, logged(followed.run, update), story)


def judge(
    plan: TrainingPlan,
    update: int,
    before: State,
    left: State,
    expected: After,
    line: Mapping[str, Any],
    story: str,
) -> Replayed:
    """What an update has left and logged against what it must leave and log; a wrong one gets a name."""
    found = compare(expected, left, line)
    mistake = "" if found.right else name_mistake(plan, update, before, left, expected)
    return Replayed(f"{story}update {update}", found, mistake)


def log(found: Sequence[Replayed]) -> Finding:
    """Loss, norm, rate, epoch and tokens of each replayed line."""
    return _worst("update/log", [(r, r.found.log) for r in found], "numbers of the log", "is not what it was")


def moments(found: Sequence[Replayed]) -> Finding:
    """Both moments of every parameter after each replayed update."""
    return _worst("update/moments", [(r, r.found.moments) for r in found], "moments", "are not the formula's")


def weights(found: Sequence[Replayed]) -> Finding:
    """Every parameter after each replayed update."""
    return _worst("update/weights", [(r, r.found.weights) for r in found], "weights", "are not the formula's")


def everything(where: str, found: Sequence[Replayed]) -> Finding:
    """All three at once: the first of them that is wrong; if none is, the one with the least room."""
    parts = [check(found) for check in (log, moments, weights)]
    first = next((part for part in parts if not part.passed), None)
    ratios = [a.ratio for r in found for part in vars(r.found).values() for a in part.values()]
    figure = f"{max(ratios, default=0.0):.2g} of the derived bound, log, moments and weights of {len(found)} updates"
    margin = first.margin if first else f"{1 / max(ratios):.3g}x inside"
    return replace(first or parts[0], where=where, figure=figure, margin=margin)


def _worst(
    where: str, found: Sequence[tuple[Replayed, Mapping[str, Agreement]]], what: str, wrong: str
) -> Finding:
    """The first update in which something is beyond its bound; if none is, the one with the least room."""
    if not found:
        return no_problems(where, [Problem("no update was replayed", "none", "some")], of="0 updates")
    ratios = [max(a.ratio for a in parts.values()) for _, parts in found]
    beyond = [n for n, ratio in enumerate(ratios) if not ratio <= 1.0]
    at = beyond[0] if beyond else int(np.argmax(ratios))
    replayed, parts = found[at]
    bad = [a for a in parts.values() if not a.within]
    first = bad[0] if bad else max(parts.values(), key=lambda a: a.ratio)
    like = f" (behaves like: {replayed.mistake})" if replayed.mistake else ""
    tensors_of = "" if where == "update/log" else f"{len(bad)} of {len(parts)} tensors, first "
    problem = f"{replayed.name}: {tensors_of}{first.where} {wrong}{like}"
    return Finding(
        where,
        passed=not beyond,
        figure=f"{max(ratios):.2g} of the derived bound, {what} of {len(found)} updates",
        threshold="<= 1",
        margin=f"{1 / max(ratios):.3g}x inside" if 0 < max(ratios) <= 1 else f"{max(ratios):.3g}x",
        problem=problem,
        got=f"{first.got!r}",
        expected=f"{first.expected!r}, give or take {first.bound:.2g}",
        share=max(ratios),
    )
