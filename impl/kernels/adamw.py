"""AdamW (Loshchilov & Hutter 2019): clipping, decoupled weight decay, update; one pass over a flat parameter buffer."""

from typing import NamedTuple

import numpy as np

from impl.kernels.runtime.compile import kernel


class Scalars(NamedTuple):
    """The float64 constants of one update.

    Bias correction multiplies by 1 / (1 - beta^t): division has a lower throughput than multiplication.
    """

    decay_factor: float
    """1 - lr * weight_decay"""
    lr: float
    beta1: float
    one_minus_beta1: float
    beta2: float
    one_minus_beta2: float
    bias_correction1: float
    """1 / (1 - beta1^t)"""
    bias_correction2: float
    """1 / (1 - beta2^t)"""
    eps: float
    clip_factor: float
    """The gradient is multiplied by it; a factor of 1 changes no bit."""


@kernel
def adamw(p, g, m, v, decayed, scalars):
    """One update in place; p, g, m, v [n] of one dtype, decayed bool [n].

    g <- clip g; p <- p (1 - lr wd) where decayed; m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2;
    p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps). The array g is not changed.
    Each scalar is rounded once to the dtype of p.
    """
    number = p.dtype.type
    clip, eps = number(scalars.clip_factor), number(scalars.eps)
    decay_factor, lr = number(scalars.decay_factor), number(scalars.lr)
    beta1, rest1 = number(scalars.beta1), number(scalars.one_minus_beta1)
    beta2, rest2 = number(scalars.beta2), number(scalars.one_minus_beta2)
    correction1, correction2 = number(scalars.bias_correction1), number(scalars.bias_correction2)
    for i in range(p.size):
        gradient = clip * g[i]
        first = beta1 * m[i] + rest1 * gradient
        second = beta2 * v[i] + rest2 * (gradient * gradient)
        m[i] = first
        v[i] = second
        decayed_p = p[i] * decay_factor if decayed[i] else p[i]
        p[i] = decayed_p - lr * (first * correction1) / (np.sqrt(second * correction2) + eps)


@kernel
def running_power(beta, t):
    """beta^t, computed as the running product that the optimizer keeps: t multiplications, each rounded."""
    product = 1.0
    for _ in range(t):
        before = product
        product *= beta
        if product == before:  # 0, or a number so small that the product rounds to it: so are all that follow
            break
    return product
