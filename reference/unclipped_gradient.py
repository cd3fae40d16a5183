"""The gradient of an update, from the first moments before and after it.

    m1 = beta1 m + (1 - beta1) g     hence     g = (m1 - beta1 m) / (1 - beta1)

Each operation and constant is rounded once, in the precision u of the moments, so that m1 is off by at most
u (2 beta1 |m| + 3 (1 - beta1) (|g| + |m|) + |m1|), for either of the forms beta1 m + (1 - beta1) g and
m + (1 - beta1) (g - m); g inherits that divided by 1 - beta1.

What is recovered is the gradient as the optimizer got it, after clipping. Clipping multiplied all of it by one factor
(clipping.py), which follows from the norm before.

Source: Kingma and Ba 2015, "Adam", algorithm 1; the model of rounding of arithmetic.py.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from reference.arithmetic import SINGLE, UNDERFLOW, UNIT
from reference.central_differences import Recovered
from reference.clipping import SAFETY

Tensors = Mapping[str, Float[np.ndarray, "..."]]


def of_moments(
    m: Float[np.ndarray, "..."], m1: Float[np.ndarray, "..."], beta1: float
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """(g, by how much each number of it may be off), float64, of the shape of the moments."""
    u, w = UNIT.get(m1.dtype, SINGLE), 1.0 - beta1
    before, after = m.astype(np.float64), m1.astype(np.float64)
    g = (after - beta1 * before) / w
    off = u * (2 * beta1 * np.abs(before) + 3 * w * (np.abs(g) + np.abs(before)) + np.abs(after))
    return g, (off + 4 * UNDERFLOW[u]) / w * (1 + 8 * u / w) + u * np.abs(g)


def clip_factor(norm: float, max_norm: float, clip: str = "exact") -> float:
    """What a gradient of this norm is multiplied by, in one of the variants of clipping.py."""
    if clip == "torch":
        return min(1.0, max_norm / (norm + SAFETY))
    if norm <= max_norm:
        return 1.0
    return max_norm / (norm + SAFETY if clip == "cs336" else norm)


def recovered(
    before: Tensors,
    after: Tensors,
    *,
    beta1: float,
    unit: float,
    max_norm: float | None = None,
    norm: float | None = None,
    clip: str = "exact",
) -> Recovered:
    """The gradient before clipping, from the first moments by name (one that is not there before was 0).

    `norm` is the logged one, before clipping. ValueError if it is needed and not there: without it a gradient of the
    largest norm may have had any norm before.
    """
    found = {n: of_moments(before.get(n, np.zeros_like(m1)), m1, beta1) for n, m1 in after.items()}
    gradient = Recovered({n: g for n, (g, _) in found.items()}, {n: b for n, (_, b) in found.items()}, unit)
    if max_norm is None:
        return gradient
    if norm is None:
        if gradient.norm >= (1 - 1e-4) * max_norm:
            raise ValueError("it was clipped, and its norm before (grad_norm) is not logged")
        return gradient
    factor = clip_factor(norm, max_norm, clip)
    return Recovered(
        {n: g / factor for n, g in gradient.values.items()},
        {n: b / factor for n, b in gradient.bounds.items()},
        unit,
    )
