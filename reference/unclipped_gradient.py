"""The gradient of an update before it was clipped: recovered from the first moments, and divided by one factor.

The moments tell the gradient as the optimizer got it (recovered_gradient.py). Clipping had multiplied all of it by one
factor, which follows from the norm before (recovered_norm.py, the table of clipping.py), and that is logged. The norm's
own rounding lengthens or shortens all of the gradient by some unit roundoffs; central_differences.py allows for more.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from reference import recovered_gradient, recovered_norm
from reference.central_differences import Recovered

Tensors = Mapping[str, Float[np.ndarray, "..."]]
NEARLY = 1 - 1e-4
"""Of the limit: a recovered norm above it may be that of a clipped gradient."""


def unclipped(
    before: Tensors,
    after: Tensors,
    *,
    beta1: float,
    unit: float,
    max_norm: float | None = None,
    norm: float | None = None,
    clip: str = "exact",
    scalars: str = "double",
) -> Recovered:
    """The gradient before clipping, from the first moments by name (one that is not there before was 0).

    `unit` is the unit roundoff in which the gradient was computed, `norm` the logged norm before clipping. ValueError
    if that is needed and not there: without it a gradient of the largest norm may have had any norm before.
    """
    found = {
        name: recovered_gradient.gradient(
            before.get(name, np.zeros_like(m1)), m1, beta1=beta1, scalars=scalars
        )
        for name, m1 in after.items()
    }
    factor = 1.0
    if max_norm is not None and norm is not None:
        factor = recovered_norm.clipped(norm, max_norm, clip) / norm if norm > 0 else 1.0
    elif max_norm is not None and float(recovered_norm.norm(list(found.values())).value) >= NEARLY * max_norm:
        raise ValueError("it was clipped, and its norm before (grad_norm) is not logged")
    return Recovered(
        {name: np.asarray(g.value / factor, np.float64) for name, g in found.items()},
        {name: np.asarray(g.bound / factor, np.float64) for name, g in found.items()},
        unit,
    )
