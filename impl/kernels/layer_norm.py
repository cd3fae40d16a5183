"""LayerNorm over the last axis (Ba, Kiros & Hinton 2016): gamma * x_hat + beta, x_hat = (x - mean) / sqrt(var + eps).

The variance is the biased one, computed from the centred values: two passes, no cancellation.
"""

import numpy as np

from impl.kernels.reduce import row_dot, row_sum
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.memory import allocate, free


@kernel
def layer_norm(x, gamma, beta, eps, y, x_hat, inverse_std):
    """y = LayerNorm(x), and x_hat and inverse_std = 1 / sqrt(var + eps) for the backward pass.

    x, y, x_hat [N, D]; gamma, beta [D]; inverse_std [N]; eps of their dtype.
    """
    width = x.shape[1]
    count = gamma.dtype.type(width)
    one = gamma.dtype.type(1.0)
    buffer = allocate(1, width, x)
    centred = buffer[0]
    for n in range(x.shape[0]):
        mean = row_sum(x[n]) / count
        for d in range(width):
            centred[d] = x[n, d] - mean
        scale = one / np.sqrt(row_dot(centred, centred) / count + eps)
        inverse_std[n] = scale
        for d in range(width):
            z = centred[d] * scale
            x_hat[n, d] = z
            y[n, d] = z * gamma[d] + beta[d]
    free(buffer)


@kernel
def layer_norm_backward(dy, x_hat, inverse_std, gamma, dx):
    """dx = (g - mean(g) - x_hat * mean(g * x_hat)) * inverse_std with g = dy * gamma; dy, x_hat, dx [N, D]."""
    width = dy.shape[1]
    count = gamma.dtype.type(width)
    buffer = allocate(1, width, dy)
    g = buffer[0]
    for n in range(dy.shape[0]):
        for d in range(width):
            g[d] = dy[n, d] * gamma[d]
        mean = row_sum(g) / count
        mean_product = row_dot(g, x_hat[n]) / count
        for d in range(width):
            dx[n, d] = (g[d] - mean - x_hat[n, d] * mean_product) * inverse_std[n]
    free(buffer)


@kernel
def layer_norm_parameters_backward(dy, x_hat, dgamma, dbeta):
    """dgamma += the sum over n of dy * x_hat, dbeta += the sum over n of dy, n ascending; dgamma, dbeta [D]."""
    for n in range(dy.shape[0]):
        for d in range(dy.shape[1]):
            dgamma[d] += dy[n, d] * x_hat[n, d]
            dbeta[d] += dy[n, d]
