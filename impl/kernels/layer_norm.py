"""LayerNorm over the last axis (Ba, Kiros & Hinton 2016): y = gamma * (x - mean) / sqrt(var + eps) + beta.

The variance is the biased one, from the centred values: two passes, no cancellation.
"""

import numpy as np

from impl.kernels.reduce import row_dot, row_sum
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.memory import free, scratch


@kernel
def layer_norm(x, gamma, beta, eps, y, normalised, inverse_deviation):
    """x, y, normalised [N, D]; inverse_deviation [N]; eps of their dtype. Keeps what the backward pass needs."""
    width = x.shape[1]
    count = gamma.dtype.type(width)
    one = gamma.dtype.type(1.0)
    room = scratch(1, width, x)
    centred = room[0]
    for n in range(x.shape[0]):
        mean = row_sum(x[n]) / count
        for d in range(width):
            centred[d] = x[n, d] - mean
        scale = one / np.sqrt(row_dot(centred, centred) / count + eps)
        inverse_deviation[n] = scale
        for d in range(width):
            z = centred[d] * scale
            normalised[n, d] = z
            y[n, d] = z * gamma[d] + beta[d]
    free(room)


@kernel
def layer_norm_backward(dy, normalised, inverse_deviation, gamma, dx):
    """dx = (g - mean(g) - xhat * mean(g * xhat)) / deviation with g = dy * gamma; all [N, D]."""
    width = dy.shape[1]
    count = gamma.dtype.type(width)
    room = scratch(1, width, dy)
    g = room[0]
    for n in range(dy.shape[0]):
        for d in range(width):
            g[d] = dy[n, d] * gamma[d]
        mean = row_sum(g) / count
        slope = row_dot(g, normalised[n]) / count
        for d in range(width):
            dx[n, d] = (g[d] - mean - normalised[n, d] * slope) * inverse_deviation[n]
    free(room)


@kernel
def layer_norm_parameters_backward(dy, normalised, dgamma, dbeta):
    """dgamma += the sum over n of dy * xhat, dbeta += that of dy; n ascending."""
    for n in range(dy.shape[0]):
        for d in range(dy.shape[1]):
            dgamma[d] += dy[n, d] * normalised[n, d]
            dbeta[d] += dy[n, d]
