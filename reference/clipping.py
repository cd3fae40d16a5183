"""Clipping by the global norm.

    n = sqrt(sum of the squares of all gradients);   n <= max: nothing changes;   else every g becomes g * (max / n)

Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.
One norm for all tensors, so the direction is kept. The sum is taken in double precision: a square of a single neither
overflows nor vanishes there.
"""

import numpy as np
from jaxtyping import Float


def global_norm(gradients: list[Float[np.ndarray, "..."]]) -> Float[np.ndarray, ""]:
    """Euclidean norm of all gradients taken as one vector."""
    flat = np.concatenate([np.zeros(1), *(g.reshape(-1) for g in gradients)]).astype(np.float64)
    return np.sqrt((flat * flat).sum())


def clip_by_global_norm(
    gradients: list[Float[np.ndarray, "..."]], max_norm: float
) -> tuple[list[Float[np.ndarray, "..."]], Float[np.ndarray, ""]]:
    """(gradients of norm at most max_norm, norm before clipping)."""
    norm = global_norm(gradients)
    if norm <= max_norm:
        return gradients, norm
    return [g * (max_norm / norm) for g in gradients], norm
