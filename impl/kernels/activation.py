"""Exact GELU (Hendrycks & Gimpel 2016): x * Phi(x), Phi the standard normal distribution function."""

from impl.kernels.math_functions import normal_cdf_pdf
from impl.kernels.runtime.compile import kernel


@kernel
def gelu(x, out, grad):
    """out = x Phi(x) and its derivative grad = Phi(x) + x phi(x), element by element; all [N, D]."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            value = x[n, d]
            cdf, pdf = normal_cdf_pdf(value)
            out[n, d] = value * cdf
            grad[n, d] = cdf + value * pdf
