"""AdamW (Loshchilov & Hutter 2019): clipping, decoupled weight decay, update; one pass over a flat parameter buffer."""

from typing import NamedTuple

import numpy as np

from impl.kernels.runtime.compile import kernel


class Scalars(NamedTuple):
    """Of an update, all float64.

    A correction is 1 / (1 - beta^t): two multiplications in place of two divisions, which the processor has only one
    slow unit for.
    """

    shrink: float
    """1 - lr * weight_decay"""
    lr: float
    beta1: float
    rest1: float
    """1 - beta1"""
    beta2: float
    rest2: float
    correction1: float
    correction2: float
    eps: float
    clip: float
    """What the gradient is multiplied with; 1 changes no bit of it."""


@kernel
def adamw(p, g, m, v, decayed, scalars):
    """One update in place; p, g, m, v [n] of one dtype, decayed bool [n].

    g <- clip g; p <- p (1 - lr wd) where decayed; m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2;
    p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps). g itself is left as it was.
    Each scalar is rounded once to their dtype.
    """
    number = p.dtype.type
    clip, eps = number(scalars.clip), number(scalars.eps)
    shrink, lr = number(scalars.shrink), number(scalars.lr)
    beta1, rest1, correction1 = number(scalars.beta1), number(scalars.rest1), number(scalars.correction1)
    beta2, rest2, correction2 = number(scalars.beta2), number(scalars.rest2), number(scalars.correction2)
    for i in range(p.size):
        gradient = clip * g[i]
        first = beta1 * m[i] + rest1 * gradient
        second = beta2 * v[i] + rest2 * (gradient * gradient)
        m[i] = first
        v[i] = second
        kept = p[i] * shrink if decayed[i] else p[i]
        p[i] = kept - lr * (first * correction1) / (np.sqrt(second * correction2) + eps)
