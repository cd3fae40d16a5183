"""The norm of the clipped gradient, recovered from the moments, against the norm that a run has logged.

A run logs n, the norm before clipping. Which norm must be left is a function of n (clipping.py):

    exact, optax     min(n, max)
    torch            n min(1, max / (n + 1e-6))
    cs336            n if n < max, else n max / (n + 1e-6)

The recovered gradient is g + e, and | ||g + e|| - ||g|| | <= ||e||, which is certain. The subject's n has the error
of a sum of N squares: one rounding a square, and for the sum lambda sqrt(N) u with a probability of
1 - 2 exp(-lambda^2 / 2) whatever its order (Higham, Mary; lambda as in monte_carlo.py). The root halves both. Then the
root itself, the factor (a sum, a division of two roundings, a constant) and its product with each entry:

    delta = (1 + lambda sqrt(N)) u / 2 + 6 u

The law is evaluated at n (1 - delta), n and n (1 + delta): cs336 jumps where n = max.

Sources: Pascanu, Mikolov, Bengio, ICML 2013, algorithm 1; Higham, Mary, "A new approach to probabilistic rounding error
analysis", SIAM J. Sci. Comput. 41, 2019, theorem 2.4.
"""

import math
from collections.abc import Sequence

import numpy as np

from reference.bounds import Bounded
from reference.clipping import SAFETY
from reference.monte_carlo import LAMBDA


def norm(gradients: Sequence[Bounded]) -> Bounded:
    """The Euclidean norm of all recovered gradients taken as one vector, a scalar; its bound is the recovery's."""
    square = sum(float((g.value * g.value).sum()) for g in gradients)
    spread = sum(float((g.bound * g.bound).sum()) for g in gradients)
    return Bounded(np.asarray(math.sqrt(square)), np.asarray(math.sqrt(spread)))


def relative_error(numbers: int, unit: float) -> float:
    """delta above, for a norm of that many numbers."""
    return ((1.0 + LAMBDA * math.sqrt(numbers)) / 2.0 + 6.0) * unit


def clipped(total: float, max_norm: float | None, clip: str) -> float:
    """The norm that is left of one of `total`, by a line of the table; None clips nothing."""
    if max_norm is None:
        return total
    safety = SAFETY if clip in ("torch", "cs336") else 0.0
    if clip == "torch":
        return total * min(1.0, max_norm / (total + safety))
    return total if total < max_norm else total * (max_norm / (total + safety))


def left_of(total: float, max_norm: float | None, clip: str, *, numbers: int, unit: float) -> Bounded:
    """The norm that clipping must leave of a logged one, a scalar, and how far a correct subject's may be from it."""
    delta = relative_error(numbers, unit)
    ends = [clipped(total * (1.0 + sign * delta), max_norm, clip) for sign in (-1.0, 0.0, 1.0)]
    spread = max(abs(end - ends[1]) for end in ends)
    return Bounded(np.asarray(ends[1]), np.asarray(spread + delta * ends[1]))
