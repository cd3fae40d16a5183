"""The findings of an optimizer's audit: updates that have a checkpoint on both sides, judged without the model."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.judge.audited_update import AuditedUpdate
from gates.judge.bound_share import Share
from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.verdict.finding import Finding, Problem, no_problems, nothing_to_judge

FEWEST_SKIPPED = 2
"""A short run may skip as many updates, whatever their share: a loss scale is found by halving."""
WHAT = {
    "second_moment": "second moments",
    "weights": "weights",
    "decay": "decays",
    "rate": "rates",
    "norm": "norms of clipped gradients",
}


def of_bounds(check: str, audited: Sequence[AuditedUpdate]) -> Finding:
    """second_moment, weights, decay, rate or norm: the first update beyond its bound; else the one with the least room.

    Of updates that look like several mistakes, or like none, one is shown that looks as most of them do. GateError if
    no update was judged.
    """
    found = [update.shares[check] for update in audited if check in update.shares]
    if not found:
        if check == "norm" and any(not update.skipped for update in audited):
            return _nothing_is_clipped()
        raise GateError("no update with a checkpoint on both sides was made")
    ratios = [share.ratio for share in found]
    beyond = [share for share in found if not share.ratio <= 1.0]
    usual = Counter(share.like for share in beyond).most_common(1)
    shown = [share for share in beyond if share.like == usual[0][0]]
    first = next(iter(shown), found[int(np.argmax(ratios))])
    return Finding(
        f"record/{check}",
        passed=not beyond,
        figure=f"{max(ratios):.2g} of the derived bound, {WHAT[check]} of {len(found)} updates",
        threshold="<= 1",
        margin=_margin(max(ratios)),
        problem=first.message + (f" (and {len(beyond) - 1} more updates)" if len(beyond) > 1 else ""),
        got=first.got,
        expected=first.expected,
        share=max(ratios),
    )


def _margin(ratio: float) -> str:
    return "exact" if ratio == 0 else f"{1 / ratio:.3g}x inside" if ratio <= 1 else f"{ratio:.3g}x"


def _nothing_is_clipped() -> Finding:
    """clip_norm is null, and no line has grad_norm: there is no number to compare."""
    return nothing_to_judge(
        "record/norm",
        missing="no clip_norm is declared, and no line has grad_norm",
        unproved="the norms of its gradients",
    )


def tensors(audited: Sequence[AuditedUpdate]) -> Finding:
    """Every parameter has both moments, and nothing else is there."""
    return _problems("tensors", audited)


def precision(audited: Sequence[AuditedUpdate]) -> Finding:
    """No state is kept in 16 bits, every tensor moves, and each is reached by a gradient in some update."""
    made = [update for update in audited if not update.skipped]
    never = sorted(frozenset.intersection(*(update.unreached for update in made))) if len(made) > 1 else []
    more = [
        Problem(
            f"{name}: no gradient reaches it in any of {len(made)} updates",
            "0",
            "a gradient, or frozen = [...]",
        )
        for name in never
    ]
    return _problems("precision", audited, more)


def skipped(
    declared: DeclaredOptimizer, audited: Sequence[AuditedUpdate], log: Sequence[Mapping[str, Any]]
) -> Finding:
    """t counts the updates that were made; those that were skipped are said to be, and are few."""
    number = sum(line.get("skipped") is True for line in log)
    limit = max(FEWEST_SKIPPED, int(declared.most_skipped * len(log)))
    more = (
        [Problem("updates that the log says were skipped", number, f"at most {limit}")]
        if number > limit
        else []
    )
    return _problems("skipped", audited, more, f", {number} of {len(log)} lines skipped")


def _problems(
    check: str, audited: Sequence[AuditedUpdate], more: Iterable[Problem] = (), detail: str = ""
) -> Finding:
    problems = [problem for update in audited for problem in update.problems.get(check, ())]
    of = f"{len(audited)} updates, {max((update.judged for update in audited), default=0)} tensors{detail}"
    return no_problems(f"record/{check}", [*problems, *more], of=of)


def late(audited: Sequence[AuditedUpdate], chance: str) -> Finding:
    """Drawn updates of the judged run, made again: every bound and every fact of each. `chance` says what is not seen.

    GateError if none was judged.
    """
    if not audited:
        raise GateError("no update of the judged run was made again with a checkpoint on both sides")
    problems = [problem for update in audited for found in update.problems.values() for problem in found]
    shares = [(update, share) for update in audited for share in update.shares.values()]
    problems += [_of(share) for _, share in shares if not share.ratio <= 1.0]
    worst = max((share.ratio for _, share in shares), default=0.0)
    return no_problems(
        "record/late", problems, of=f"{len(audited)} drawn updates, {worst:.2g} of the bound; {chance}"
    )


def _of(share: Share) -> Problem:
    return Problem(share.message, share.got, share.expected)


CHECKS: Mapping[str, Callable[[Sequence[AuditedUpdate]], Finding]] = {
    **{check: partial(of_bounds, check) for check in WHAT},
    "tensors": tensors,
    "precision": precision,
}
"""Checks of a gate that look at audited updates alone."""
