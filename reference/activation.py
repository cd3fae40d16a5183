"""The exact Gaussian error linear unit, and its gradient.

    gelu(x) = x Phi(x),   Phi(x) = (1 + erf(x / sqrt 2)) / 2

Source: Hendrycks, Gimpel, "Gaussian error linear units", 2016. The tanh formula of the same paper is another
function: it differs by up to 5e-4.
"""

import math

import numpy as np
from jaxtyping import Float

erf_ufunc = np.frompyfunc(math.erf, 1, 1)
"""Gives watched arrays (arithmetic.py) their say; plain arrays take the faster path in `erf`."""


def erf(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The error function, elementwise, within 1 ulp. On x + ih: erf(x) + ih erf'(x), exact as h -> 0."""
    if not isinstance(x, np.ndarray):
        return erf_ufunc(x)
    if np.iscomplexobj(x):
        return erf(x.real) + 2j / math.sqrt(math.pi) * np.exp(-x.real * x.real) * x.imag
    return np.fromiter(map(math.erf, x.reshape(-1).tolist()), x.dtype, x.size).reshape(x.shape)


def normal_cdf(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Phi(x), the standard normal distribution function."""
    return 0.5 * (1.0 + erf(x / math.sqrt(2.0)))


def gelu(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """x Phi(x)."""
    return x * normal_cdf(x)


def gelu_backward(x: Float[np.ndarray, "..."], dy: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """dy (Phi(x) + x phi(x)), phi the standard normal density."""
    density = np.exp(-0.5 * (x * x)) / math.sqrt(2.0 * math.pi)
    return dy * (normal_cdf(x) + x * density)
