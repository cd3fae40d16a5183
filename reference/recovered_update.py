"""An AdamW update judged from the weights before and after it: its form, its rate, the decay of each tensor.

optimizer.py has the law. Both moments after the update are known to the last bit, so that everything but the weights
is a constant of known error:

direction d. c1 = 1 - b1^t and c2 = 1 - b2^t carry r1 and r2: beta^t has t roundings of the base and, as a power or a
product, 8 + t of its own (arithmetic.py), and 1 - beta^t one more,

    r = c ((2 t + 8) beta^t / (1 - beta^t) + 1),     c the relative error of a constant (recovered_gradient.py)

and d itself, times the rate, gamma_12: m / c1 three (a constant, a division of two), sqrt(v) one, its division by
sqrt(c2) three, + eps one, the quotient two, the rate and its product two. With eps before the correction there are
fewer. So |error of lr d| <= (gamma_12 + r1 + r2 / 2) lr |d|. Subnormal moments may be read as 0.

weights. p1 is rounded once as it is stored: u |p1|. Before that, with k = lr wd,

    before    p (1 - k) - lr d, or p - k p - lr d          gamma_2 |1 - k| |p| + gamma_5 k |p|
    with      p - lr (d + wd p)                            gamma_5 k |p|
    after     q - k q or q (1 - k), q = p - lr d           (u + gamma_2) |q| + gamma_5 k |q|

Two unknowns. In p - p1 = lr d + lr wd x (x = p, or q after the step) the rate is common to all tensors and the decay
belongs to one. Both follow by least squares, each entry weighted by 1 / bound^2: an update that is not as declared is
told by its numbers.

Source: Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2; Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd ed., 2002, sections 2.2, 3.1 and 20.1 (weighted least squares).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
from jaxtyping import Float

from reference.arithmetic import ELEMENTARY, gamma, unit_roundoff
from reference.bounds import Bounded
from reference.recovered_gradient import own_share, unit_of_constants, wide

Array = Float[np.ndarray, "..."]
DIGITS = 60
"""Decimal digits of 1 - beta^t."""


@dataclass(frozen=True)
class Form:
    """Which AdamW a run declares, in the names and values of the conventions."""

    beta1: float
    beta2: float
    eps: float
    decay: str = "before"
    eps_place: str = "after correction"
    scalars: str = "double"


@dataclass(frozen=True)
class Tensor:
    """A parameter before and after an update, and its moments after it, all of one shape."""

    p: Array
    p1: Array
    m1: Array
    v1: Array

    @property
    def unit(self) -> float:
        """Unit roundoff of the update: the larger of those of weights and moments. TypeError for 16 bits."""
        return max(unit_roundoff(x.dtype) for x in (self.p1, self.m1, self.v1))


@cache
def correction(beta: float, t: int) -> np.longdouble:
    """1 - beta^t."""
    with localcontext() as context:
        context.prec = DIGITS
        return np.longdouble(str(1 - Decimal(beta) ** t))


def correction_error(beta: float, t: int, unit: float) -> float:
    """r above: how far a subject's 1 - beta^t may be from it, relative to it."""
    power = beta**t
    return unit * ((2.0 * t + ELEMENTARY) * power / float(correction(beta, t)) + 1.0)


def direction(form: Form, t: int, tensor: Tensor) -> Bounded:
    """d of update t, counted from 1, and a bound on the error of lr d for lr = 1, of the shape of the tensor."""
    m, v, unit = wide(tensor.m1), wide(tensor.v1), tensor.unit
    kind, tiny = m.dtype.type, float(np.finfo(tensor.m1.dtype).smallest_normal)
    c1, c2 = (kind(correction(beta, t)) for beta in (form.beta1, form.beta2))
    if form.eps_place == "before correction":
        root, size = np.sqrt(v) + form.eps, np.sqrt(c2) / c1
    elif form.eps_place == "inside the root":  # no convention; for the name of a mistake
        root, size = np.sqrt(v / c2 + form.eps), 1.0 / c1
    else:
        root, size = np.sqrt(v / c2) + form.eps, 1.0 / c1
    with np.errstate(all="ignore"):
        d = size * m / root
        flushed = np.where(v < tiny, math.sqrt(tiny / float(c2)) / root, 0.0)
        c = unit_of_constants(unit, form.scalars)
        r1, r2 = (correction_error(beta, t, c) for beta in (form.beta1, form.beta2))
        error = (gamma(12, unit) + r1 + r2 / 2.0 + flushed) * np.abs(d) + tiny * float(size) / root
    return Bounded(d, error)


def expected(form: Form, tensor: Tensor, d: Bounded, rate: float, wd: float) -> Bounded:
    """The weights after a step of this rate and decay, and how far a correct subject's may be from them."""
    unit, k = tensor.unit, rate * wd
    p, tiny = wide(tensor.p), float(np.finfo(tensor.p1.dtype).smallest_normal)
    if form.decay == "after":
        q = p - rate * d.value
        value, error = q - k * q, (unit + gamma(2, unit) + gamma(5, unit) * k) * np.abs(q)
    else:
        value = p * (1.0 - k) - rate * d.value
        whole = 0.0 if form.decay == "with" else gamma(2, unit) * abs(1.0 - k)
        error = (whole + gamma(5, unit) * k) * np.abs(p)
    error = error + rate * d.bound + unit * np.abs(wide(tensor.p1)) + 4.0 * tiny
    return Bounded(value, error * own_share(unit))


def ratio(tensor: Tensor, weights: Bounded) -> float:
    """The largest error of the weights after an update as a share of its bound; infinite for a NaN."""
    with np.errstate(all="ignore"):
        error = np.abs(wide(tensor.p1) - weights.value)
        found = np.where(error == 0, 0.0, error / weights.bound)
    worst = float(np.max(found, initial=0.0))
    return worst if worst == worst else math.inf


@dataclass(frozen=True)
class Fit:
    """The rate and the decay of each tensor that an update behaves as if it had used; None where nothing tells."""

    rate: float
    decay: Mapping[str, float | None]


def fit(
    form: Form,
    tensors: Mapping[str, Tensor],
    directions: Mapping[str, Bounded],
    *,
    rate: float,
    decay: Mapping[str, float],
    free_rate: bool = True,
    free_decay: bool = True,
) -> Fit:
    """Rate and decays by weighted least squares, each free or held as declared; name -> tensor, all of any shape.

    `rate` and `decay`, the declared ones, give each entry its weight.
    """
    found = Fit(rate, dict(decay))
    for _ in range(3 if form.decay == "after" else 1):  # q depends on the rate
        sums = {
            name: _sums(form, tensors[name], directions[name], found.rate, rate, decay[name])
            for name in tensors
        }
        now = _rate(list(sums.values()), list(decay.values()), free_decay) if free_rate else rate
        decays = {n: _decay(s, now) if free_decay else decay[n] for n, s in sums.items()}
        found = Fit(now, decays)
    return found


def fits(
    form: Form, tensors: Mapping[str, Tensor], directions: Mapping[str, Bounded], found: Fit
) -> dict[str, float]:
    """Name -> the largest share of a bound by which an update is off from these numbers; at most 1 if correct."""
    return {
        name: ratio(x, expected(form, x, directions[name], found.rate, found.decay[name] or 0.0))
        for name, x in tensors.items()
    }


@dataclass(frozen=True)
class _Sums:
    """Of a tensor, over its entries, weighted: d d, d x, x x, d y and x y, where y = p - p1."""

    dd: float
    dx: float
    xx: float
    dy: float
    xy: float


def _sums(form: Form, tensor: Tensor, d: Bounded, at: float, rate: float, wd: float) -> _Sums:
    p = wide(tensor.p)
    x, y = (p - at * d.value if form.decay == "after" else p), p - wide(tensor.p1)
    bound = expected(form, tensor, d, rate, wd).bound
    bound = np.maximum(bound, 1e-30 * np.max(bound, initial=0.0))
    a, b, y = (z / bound for z in (d.value, x, y))
    return _Sums(*(float((one * other).sum()) for one, other in ((a, a), (a, b), (b, b), (a, y), (b, y))))


def _rate(sums: Sequence[_Sums], decay: Sequence[float], free_decay: bool) -> float:
    """The common rate: with every decay free (eliminated) or held."""
    top = bottom = 0.0
    for s, wd in zip(sums, decay, strict=True):
        if free_decay:
            share = s.dx / s.xx if s.xx > 0 else 0.0
            top, bottom = top + s.dy - share * s.xy, bottom + s.dd - share * s.dx
        else:  # y = lr (d + wd x)
            top += s.dy + wd * s.xy
            bottom += s.dd + 2.0 * wd * s.dx + wd * wd * s.xx
    return top / bottom if bottom > 0 else math.nan


def _decay(s: _Sums, rate: float) -> float | None:
    return (s.xy - rate * s.dx) / (rate * s.xx) if s.xx > 0 and rate else None
