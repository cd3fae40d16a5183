"""AdamW (Loshchilov & Hutter 2019), decoupled weight decay, one pass over a flat parameter buffer."""

import numpy as np

from impl.kernels.compile import kernel


@kernel
def adamw(p, g, m, v, decayed, shrink, lr, beta1, rest1, beta2, rest2, correction1, correction2, eps):
    """One update in place; p, g, m, v [n] of one dtype, decayed bool [n], the rest scalars of that dtype.

    p <- p (1 - lr wd) where decayed; m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2;
    p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
    The caller computes shrink = 1 - lr wd, rest = 1 - beta and correction = 1 / (1 - beta^t) in float64 and rounds
    once: two multiplications in place of two divisions, which the processor has only one slow unit for.
    """
    for i in range(p.size):
        first = beta1 * m[i] + rest1 * g[i]
        second = beta2 * v[i] + rest2 * (g[i] * g[i])
        m[i] = first
        v[i] = second
        kept = p[i] * shrink if decayed[i] else p[i]
        p[i] = kept - lr * (first * correction1) / (np.sqrt(second * correction2) + eps)
