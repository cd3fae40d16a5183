"""Is the logged loss the subject's own loss, and is the gradient of its updates that loss's gradient?"""

import math
from collections.abc import Sequence

from gates.subject.model_runs import JudgedUpdate
from gates.verdict.finding import Finding, Problem, no_problems
from reference.central_differences import ALONG, Comparison, ratio_said

ROUNDINGS = 64
"""Unit roundoffs, of 1 + the loss, that a mean of logarithms may be off in the precision of the training."""
SPREADS = 8
"""The same, of what one roundoff in every weight changes: each layer rounds its activations as often as its weights."""


def logged_bound(update: JudgedUpdate, unit: float) -> float:
    """How far the logged loss, in the training's precision, may be from the same loss in double precision."""
    assert update.at is not None
    return ROUNDINGS * unit * (1 + abs(update.at.value)) + SPREADS * update.at.spread


def logged_losses(updates: Sequence[JudgedUpdate], unit: float) -> Finding:
    """The loss in the log is what the verb `loss` says of the rows of that update, at the weights before it."""
    problems, worst = [], 0.0
    for update in updates:
        if update.other_rows is not None:
            what = f"update {update.step}: the log and the verb `rows` name other rows"
            problems.append(Problem(what, update.line["rows"], update.other_rows))
        if update.at is None:
            problems.append(Problem(f"the loss of update {update.step}", update.unusable, "a float64 loss"))
            continue
        logged, bound = update.line.get("loss"), logged_bound(update, unit)
        if not isinstance(logged, float | int) or not abs(logged - update.at.value) <= bound:
            what = f"update {update.step}: the loss verb does not give the logged loss{_behaves(update)}"
            problems.append(Problem(what, f"{logged} logged", f"{update.at.value:.9g}, to {bound:.1e}"))
        else:
            worst = max(worst, abs(logged - update.at.value) / bound)
    steps = ", ".join(str(update.step) for update in updates)
    return no_problems("model/loss", problems, of=f"{worst:.2g} of the bound, losses of updates {steps}")


def _behaves(update: JudgedUpdate) -> str:
    """What is likely, if the gradient tells: it is that of the rows whatever was logged, or it is of other rows."""
    if not update.comparisons:
        return ""
    right = all(comparison.share <= 1 for comparison in update.comparisons)
    return (
        " (behaves like: the gradient is of these rows, another number is logged)"
        if right
        else " (behaves like: the gradient is not of these rows either)"
    )


def gradients(updates: Sequence[JudgedUpdate]) -> Finding:
    """The gradient behind each update is that of the subject's own loss, along every direction that was tried."""
    problems = [problem for update in updates for problem in _wrong(update)]
    compared = [c for update in updates for c in update.comparisons]
    worst = max((c.share for c in compared if c.share <= 1), default=0.0)
    steps = ", ".join(str(update.step) for update in updates)
    return no_problems(
        "model/gradient",
        problems,
        of=f"{worst:.2g} of the derived bound, {len(compared)} directions of updates {steps}",
    )


def _wrong(update: JudgedUpdate) -> list[Problem]:
    if update.at is None:
        return [Problem(f"update {update.step}: {update.unusable}", "no gradient to check", "a float64 loss")]
    found = [c for c in update.comparisons if c.share > 1]
    if not found:
        return []
    within = [c for c in found if not c.direction.startswith("everything")]
    of_tensors = [c for c in update.comparisons if not c.direction.startswith("everything")]
    if within and len(within) < len(of_tensors):
        return [_problem(update, [c], f"the gradient of {c.direction}") for c in _worst_first(within)]
    return [_problem(update, found, "the gradient")]


def _worst_first(found: list[Comparison]) -> list[Comparison]:
    return sorted(found, key=lambda comparison: -comparison.share)


def _problem(update: JudgedUpdate, found: list[Comparison], what: str) -> Problem:
    ratio = ratio_said(found)
    how = "is not that of the loss" if ratio is None else f"is {ratio:.4g} times that of the loss"
    along = next((c for c in found if c.direction == ALONG), _worst_first(found)[0])
    share = "infinitely often" if math.isinf(along.share) else f"{along.share:.1e} times"
    return Problem(
        f"update {update.step}: {what} {how} (along {along.direction}: off by {share} the derived bound)",
        f"{along.said:.9g}",
        f"{along.found:.9g}",
    )
