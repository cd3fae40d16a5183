"""AdamW (Loshchilov & Hutter 2019): clipping, decoupled weight decay, update; one pass over a flat parameter buffer."""

from typing import Any, NamedTuple

import numpy as np

from impl.kernels.compile import kernel


class Scalars(NamedTuple):
    """Of an update; of the parameters' dtype, rounded once.

    A correction is 1 / (1 - beta^t): two multiplications in place of two divisions, which the processor has only one
    slow unit for.
    """

    shrink: Any
    """1 - lr * weight_decay"""
    lr: Any
    beta1: Any
    rest1: Any
    """1 - beta1"""
    beta2: Any
    rest2: Any
    correction1: Any
    correction2: Any
    eps: Any
    clip: Any
    """What the gradient is multiplied with; 1 changes no bit of it."""


@kernel
def adamw(p, g, m, v, decayed, scalars):
    """One update in place; p, g, m, v [n] of one dtype, decayed bool [n].

    g <- clip g; p <- p (1 - lr wd) where decayed; m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2;
    p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps). g itself is left as it was.
    """
    shrink, lr, beta1, rest1, beta2, rest2, correction1, correction2, eps, clip = scalars
    for i in range(p.size):
        gradient = clip * g[i]
        first = beta1 * m[i] + rest1 * gradient
        second = beta2 * v[i] + rest2 * (gradient * gradient)
        m[i] = first
        v[i] = second
        kept = p[i] * shrink if decayed[i] else p[i]
        p[i] = kept - lr * (first * correction1) / (np.sqrt(second * correction2) + eps)
