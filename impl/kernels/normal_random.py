"""Normally distributed numbers from uniform random bits (Box & Muller 1958)."""

import numpy as np

from impl.kernels.math_functions import log, sin_cos
from impl.kernels.runtime.compile import kernel


@kernel
def box_muller(words, out):
    """out float64 [n], standard normal, from words uint32 [n, or n + 1 if n is odd]: two numbers from two words."""
    for i in range(0, out.size, 2):
        radius = np.sqrt(-2.0 * log((words[i] + 0.5) * 2.0**-32))
        sine, cosine = sin_cos(words[i + 1] * (2.0 * np.pi * 2.0**-32))
        out[i] = radius * cosine
        if i + 1 < out.size:
            out[i + 1] = radius * sine
