"""Known mistakes of optimizers, told from the tensors alone: what a wrong update behaves like, in words.

They give a failure its name and decide nothing. Rate and decays are fitted anew under each, so that a mistake is named
whatever else is wrong with its numbers (reference/recovered_update.py).
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from reference.bounds import Bounded
from reference.recovered_update import Fit, Form, Tensor, direction, fit, fits

FITS = 1.1
"""Times the bound: least squares is not the best fit in the largest error."""
AGREES = 2e-4
"""Two rates or decays that agree so well are said to be the same."""
RESTARTED = 20
"""Updates since which t may have started again, to be named."""
ENTRIES = 20_000
"""Of a tensor, to find its name."""


def name_form(
    form: Form,
    t: int,
    tensors: Mapping[str, Tensor],
    before: Mapping[str, tuple[np.ndarray, np.ndarray]],
    said: Fit,
    refit: bool = True,
) -> str:
    """What weights that follow another form behave like, best with the declared numbers; "" if like none of these.

    `before`: the moments before the update, by name. `said` has the rate and the decays that are declared, with which
    they must fit unless others may be sought.
    """
    named = ""
    few = {name: Tensor(*(_thinned(x) for x in (y.p, y.p1, y.m1, y.v1))) for name, y in tensors.items()}
    decay = {name: wd or 0.0 for name, wd in said.decay.items()}
    for says, other, count, these in _others(form, t, few, before):
        directions = directions_of(other, count, these)
        with np.errstate(all="ignore"):
            if max(fits(other, these, directions, said).values()) <= 1.0:
                return says
            if not refit:
                continue
            found = fit(other, these, directions, rate=said.rate, decay=decay)
            if max(fits(other, these, directions, found).values()) <= FITS:
                named = named or "; ".join(filter(None, [says, name_numbers(found, said, {})]))
    return named


def _others(
    form: Form, t: int, tensors: Mapping[str, Tensor], before: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Iterator[tuple[str, Form, int, Mapping[str, Tensor]]]:
    """(in words, form, t, tensors) of each mistake."""
    orders = {"before": "before the update", "with": "with the update", "after": "after the update"}
    places = {
        "after correction": "eps added after the bias correction",
        "before correction": "eps added before the bias correction",
        "inside the root": "eps inside the square root",
    }
    for place, says in places.items():
        if place != form.eps_place:
            yield says, dataclasses.replace(form, eps_place=place), t, tensors
    for order in ("before", "after"):
        if order != form.decay and not (order == "before" and form.decay == "with"):
            yield f"decay {orders[order]}", dataclasses.replace(form, decay=order), t, tensors
    for eps in (1e-6, 1e-7, 1e-8, 1e-10, 0.0, 2.0 * form.eps):
        if eps != form.eps:
            yield f"eps {eps:g}", dataclasses.replace(form, eps=eps), t, tensors
    counts = {
        "the bias correction of the update after": t + 1,
        "the bias correction of the update before": t - 1,
    }
    counts |= {
        f"a bias correction that has started again, t is {n}": n for n in range(1, min(t - 1, RESTARTED))
    }
    for says, count in (counts | {"no bias correction": 10**6}).items():
        if count > 0:
            yield says, form, count, tensors
    stale = {
        n: dataclasses.replace(x, m1=_thinned(before[n][0]), v1=_thinned(before[n][1]))
        for n, x in tensors.items()
    }
    if t > 1:
        yield "the moments of the update before", form, t - 1, stale


def name_numbers(found: Fit, declared: Fit, other_rates: Mapping[str, float]) -> str:
    """What a rate or decays that are not the declared ones look like; "" if like nothing known."""
    words = []
    if abs(found.rate) < 1e-3 * abs(declared.rate):
        words.append("no update at all")
    elif not _agree(found.rate, declared.rate):
        like = [says for says, rate in other_rates.items() if _agree(found.rate, rate)]
        words += like[:1] or ([f"a rate of {found.rate:.6g}"] if not other_rates else [])
    told = {n: (wd, declared.decay[n] or 0.0) for n, wd in found.decay.items() if wd is not None}
    most = max((wd for _, wd in told.values()), default=0.0)
    decaying = {n: got for n, (got, wd) in told.items() if wd}
    others = [got for got, wd in told.values() if not wd]
    if decaying and all(abs(got) < 1e-3 * most for got in decaying.values()):
        words.append("no weight decay, or decay added to the gradient (L2)")
    elif decaying and all(_agree(got, 2.0 * most, 1e-2) for got in decaying.values()):
        words.append("weight decay applied twice")
    elif decaying and all(_agree(got * found.rate, most, 1e-2) for got in decaying.values()):
        words.append("weight decay that is not multiplied by the rate")
    if most and others and any(_agree(got, most, 1e-2) for got in others):
        words.append("weight decay of everything, biases and norms too")
    return "; ".join(words)


def name_norm(
    norm: float, logged: float, max_norm: float | None, each: Mapping[str, float], slack: float
) -> str:
    """What a clipped gradient of the wrong norm behaves like; `each`: the norms of the tensors."""
    if max_norm is not None and logged > max_norm and abs(norm - logged) <= slack:
        return "no clipping, or clipping after the update"
    if max_norm is not None and norm > max_norm + slack:
        largest = max(each.values())
        return "each tensor clipped by itself" if abs(largest - max_norm) <= slack else ""
    return ""


def _agree(a: float, b: float, slack: float = AGREES) -> bool:
    return abs(a - b) <= slack * abs(b)


def _thinned(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(-1)
    return flat[:: -(-flat.size // ENTRIES)] if flat.size > ENTRIES else flat


def directions_of(form: Form, t: int, tensors: Mapping[str, Tensor]) -> dict[str, Bounded]:
    """The direction of every tensor."""
    return {name: direction(form, t, x) for name, x in tensors.items()}
