"""Clipping by the global norm.

    n = sqrt(sum of the squares of all gradients);   every gradient is multiplied by one factor

    exact    1 if n <= max, else max / n
    optax    1 if n < max, else max / n                  equal to exact in exact arithmetic
    torch    min(1, max / (n + 1e-6))                    torch.nn.utils.clip_grad_norm_: always multiplied
    keras    max min(1 / n, 1 / max)                     tf.clip_by_global_norm, Keras: always multiplied
    cs336    1 if n < max, else max / (n + 1e-6)         CS336, assignment 1

Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.
One norm for all tensors, so the direction is kept. The sum is taken in double precision: a square of a single neither
overflows nor vanishes there. PyTorch and optax add up in the dtype of the gradients (norm = "dtype").
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

SAFETY = 1e-6
"""What torch and CS336 add to the norm."""
SMALLEST = 1e-300
"""In place of a norm of 0, whose inverse is infinite: the other one of the two is then the smaller."""


def global_norm(gradients: list[Float[np.ndarray, "..."]], norm: str = "double") -> Float[np.ndarray, ""]:
    """Euclidean norm of all gradients taken as one vector."""
    flat = np.concatenate([np.zeros(1), *(g.reshape(-1) for g in gradients)])
    if norm == "double":
        flat = flat.astype(np.float64)
    return np.sqrt((flat * flat).sum())


def clip_by_global_norm(
    gradients: Iterable[Float[np.ndarray, "..."]],
    max_norm: float,
    *,
    clip: str = "exact",
    norm: str = "double",
) -> tuple[list[Float[np.ndarray, "..."]], Float[np.ndarray, ""]]:
    """(gradients of norm at most max_norm, norm before clipping), in one of the four variants of the table above."""
    gradients = list(gradients)
    total = global_norm(gradients, norm)
    return clip_by_norm(gradients, total, max_norm, clip=clip), total


def clip_by_norm(
    gradients: list[Float[np.ndarray, "..."]],
    total: Float[np.ndarray, ""],
    max_norm: float,
    *,
    clip: str = "exact",
) -> list[Float[np.ndarray, "..."]]:
    """The same gradients, for a norm that is known."""
    if clip == "torch":
        factor = np.minimum(1.0, max_norm / (total + SAFETY))
    elif clip == "keras":
        factor = max_norm * np.minimum(1.0 / np.maximum(total, SMALLEST), 1.0 / max_norm)
    elif total < max_norm or (total <= max_norm and clip == "exact"):
        return gradients
    else:
        factor = max_norm / (total + SAFETY if clip == "cs336" else total)
    return [g * factor for g in gradients]


def untouched(total: float, max_norm: float, *, clip: str = "exact", slack: float = 0.0) -> bool:
    """Whether gradients of this norm are returned unchanged, for a norm with a relative error of at most `slack`."""
    largest = total * (1.0 + slack)
    if clip == "keras":
        return False
    if clip == "torch":
        return (largest + SAFETY) * (1.0 + slack) < max_norm
    return largest <= max_norm if clip == "exact" else largest < max_norm


def comparable(gradients: list[Float[np.ndarray, "..."]], *, dtype: object, norm: str = "double") -> bool:
    """Whether the norm of these gradients is defined: with norm = "dtype", their squares must stay in its range.

    The sum may not overflow; and the largest square is 2^60 times the smallest normal number, so that squares that
    are lost below that one do not show.
    """
    if norm == "double":
        return True
    largest = max((float(np.max(np.abs(g), initial=0.0)) for g in gradients), default=0.0)
    total = sum(g.size for g in gradients) * largest * largest
    limits = np.finfo(np.dtype(dtype))  # type: ignore[call-overload]
    small, large = float(limits.smallest_normal) * 2.0**60, float(limits.max) / 4
    return total == 0.0 or (largest * largest > small and total < large)
