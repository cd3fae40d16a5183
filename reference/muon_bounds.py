"""How far a correct Muon may be from the oracle.

The iteration multiplies what is lost of a small singular value by up to 989, and its five matrix products in a row have
no useful worst case: the bound is that of monte_carlo.py. As entries of one matrix come from the same products, each
is given the bound of the worst of them: a few draws may be small by chance at one entry, and are not at all of them.
What follows the iteration, and the momentum, have worst-case bounds (running_error.py).

Where an entry of the update may be of either sign within its bound, so may be cautious decay, and the bound has both.
"""

from typing import Any

import numpy as np

from reference import muon
from reference.arithmetic import DOUBLE, SINGLE, unit_roundoff
from reference.bounds import Bounded, Simulated, allowed, simulate, traced, worst_case
from reference.monte_carlo import LAMBDA
from reference.running_error import RunningErrorArray

RUNS = 4
"""Runs of either kind that are simulated."""


def of_the_worst(x: Simulated, dtype: Any, arithmetic: str) -> Bounded:
    """A simulated [*stack, r, c] with one bound for each matrix of the stack."""
    unit = SINGLE if arithmetic == "bfloat16" else unit_roundoff(dtype)
    deviation = np.broadcast_to(x.deviation.max(axis=(-2, -1), keepdims=True, initial=0.0), x.value.shape)
    return Bounded(x.value, LAMBDA * (unit + DOUBLE) * deviation + float(np.finfo(dtype).smallest_normal))


def orthogonalized(g: np.ndarray, dtype: Any, **how: str) -> Bounded:
    """`muon.orthogonalize` of a stack [*stack, r, c]."""
    return of_the_worst(
        simulate(muon.orthogonalize, g, draws=RUNS, **how), dtype, how.get("arithmetic", "dtype")
    )


def momentum(g: np.ndarray, before: np.ndarray, mu: float, dtype: Any, scalars: str = "double") -> Bounded:
    """M after a gradient, all of one shape: as a weighted sum, or as an interpolation, whose roundings differ."""

    def weighted(g: Any, m: Any, mu: Any) -> Any:
        return mu * m + (1.0 - mu) * g

    def interpolated(g: Any, m: Any, mu: Any) -> Any:
        return m + (1.0 - mu) * (g - m)

    both = [worst_case(f, g, before, mu, dtype=dtype, scalars=scalars) for f in (weighted, interpolated)]
    return Bounded(both[0].value, np.maximum(both[0].bound, both[1].bound))


def stepped(
    p: np.ndarray,
    g: np.ndarray,
    before: np.ndarray,
    second: np.ndarray,
    *,
    dtype: Any,
    scalars: str = "double",
    t: int,
    lr: float,
    mu: float,
    beta2: float,
    weight_decay: float,
    scale: str = "shape",
    decay: str = "cautious",
    **how: str,
) -> tuple[Bounded, Bounded, Bounded]:
    """`muon.muon_step` of a stack [*stack, r, c]: (p, momentum, second)."""
    settings: dict[str, Any] = {"t": t, "mu": mu, "beta2": beta2, **how}
    found, moment = simulate(muon.direction, g, before, second, draws=RUNS, scalars=scalars, **settings)
    x = of_the_worst(found, dtype, how.get("arithmetic", "dtype"))
    unit = unit_roundoff(dtype)
    rate, wd = traced((lr, weight_decay), RunningErrorArray, unit, scalars)
    factor = muon.scale_of(p.shape, scale)
    weights: Any = RunningErrorArray.exact(p, unit)
    with_error: Any = RunningErrorArray((x.value, x.bound), unit)
    new: Any = muon.applied(weights, with_error, rate, wd, factor, decay)
    either = (np.abs(x.value) <= x.bound) & ~sure_zeros(g, before) & decay.startswith("cautious")
    bound = allowed(new) + np.where(either, 2.0 * lr * factor * weight_decay * np.abs(p), 0.0)
    return (
        Bounded(new.value, bound),
        momentum(g, before, mu, dtype, scalars),
        of_the_worst(moment, dtype, "dtype"),
    )


def sure_zeros(g: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Entries [*stack, r, c] in a row or a column without any gradient so far: 0 in every product, whoever sums it."""
    none = (g == 0.0) & (before == 0.0)
    return none.all(axis=-1, keepdims=True) | none.all(axis=-2, keepdims=True)
