"""LayerNorm over the last axis (Ba, Kiros & Hinton 2016): y = gamma * (x - mean) / sqrt(var + eps) + beta.

The variance is the biased one, from the centred values (two passes: no cancellation). Statistics are float64.
"""

import numpy as np

from impl.kernels.compile import kernel
from impl.kernels.reduce import row_dot, row_sum


@kernel
def layer_norm(x, gamma, beta, eps, y, normalised, inverse_deviation):
    """x, y, normalised [N, D]; inverse_deviation float64 [N]. Keeps what the backward pass needs."""
    width = x.shape[1]
    centred = np.empty(width)
    for n in range(x.shape[0]):
        for d in range(width):
            centred[d] = x[n, d]
        mean = row_sum(centred) / width
        for d in range(width):
            centred[d] -= mean
        scale = 1.0 / np.sqrt(row_dot(centred, centred) / width + eps)
        inverse_deviation[n] = scale
        for d in range(width):
            normalised[n, d] = centred[d] * scale
            y[n, d] = normalised[n, d] * gamma[d] + beta[d]


@kernel
def layer_norm_backward(dy, normalised, inverse_deviation, gamma, dx, dgamma, dbeta):
    """dx = (g - mean(g) - xhat * mean(g * xhat)) / deviation with g = dy * gamma; dgamma and dbeta are added to."""
    width = dy.shape[1]
    g, xhat = np.empty(width), np.empty(width)
    for n in range(dy.shape[0]):
        for d in range(width):
            dgamma[d] += dy[n, d] * normalised[n, d]
            dbeta[d] += dy[n, d]
            g[d] = np.float64(dy[n, d]) * gamma[d]
            xhat[d] = normalised[n, d]
        mean = row_sum(g) / width
        slope = row_dot(g, xhat) / width
        for d in range(width):
            dx[n, d] = (g[d] - mean - xhat[d] * slope) * inverse_deviation[n]
