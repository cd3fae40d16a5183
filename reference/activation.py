"""Activations: the Gaussian error linear unit with its gradient, and SiLU.

    gelu(x) = x Phi(x),   Phi(x) = (1 + erf(x / sqrt 2)) / 2                          form = "erf", the exact one
    gelu(x) = x (1 + tanh(c (x + a x^3))) / 2,   c = sqrt(2 / pi),   a = 0.044715     form = "tanh"
    silu(x) = x / (1 + exp(-x))

Source: Hendrycks, Gimpel, "Gaussian error linear units", 2016: section 2, where silu is named as well. The tanh form
is another function than the exact one: it differs by up to 5e-4.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy import special


def erf(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The error function, elementwise, within 4 ulps. On x + ih: erf(x) + ih erf'(x), exact as h -> 0."""
    if x.dtype.kind == "c":
        return special.erf(x.real) + 2j / math.sqrt(math.pi) * np.exp(-x.real * x.real) * x.imag
    return special.erf(x)


def normal_cdf(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Phi(x), the standard normal distribution function."""
    return 0.5 * (1.0 + erf(x / math.sqrt(2.0)))


def gelu(x: Float[np.ndarray, "..."], *, form: str = "erf") -> Float[np.ndarray, "..."]:
    """x Phi(x), or its approximation by tanh."""
    if form == "erf":
        return x * normal_cdf(x)
    return 0.5 * x * (1.0 + np.tanh(tanh_argument(x)))


def gelu_backward(
    x: Float[np.ndarray, "..."], dy: Float[np.ndarray, "..."], *, form: str = "erf"
) -> Float[np.ndarray, "..."]:
    """dy (Phi(x) + x phi(x)), phi the standard normal density; or dy times the derivative of the tanh form."""
    if form == "erf":
        density = np.exp(-0.5 * (x * x)) / math.sqrt(2.0 * math.pi)
        return dy * (normal_cdf(x) + x * density)
    t = np.tanh(tanh_argument(x))
    slope = TANH_SCALE * (1.0 + 3.0 * TANH_CUBE * (x * x))
    return dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)


TANH_SCALE, TANH_CUBE = math.sqrt(2.0 / math.pi), 0.044715


def tanh_argument(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """c (x + a x^3)."""
    return TANH_SCALE * (x + TANH_CUBE * (x * x * x))


def silu(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """x times the logistic function of x, which is 1 / (1 + exp(-x))."""
    return x / (1.0 + np.exp(-x))
