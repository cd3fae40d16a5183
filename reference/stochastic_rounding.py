"""Stochastic rounding of weights to bfloat16: up or down at random, so that the mean is the number itself.

Between two neighbours a < b of the format, x becomes b with probability (x - a) / (b - a), else a: E[result] = x. An
update that is smaller than half an ulp is then not lost but made now and then, and weights need no master copy. A
number of the format stays; what lies beyond the largest one is rounded to nearest.

The noise is counter-based (philox.py): a function of seed, update and place of the weight, whatever the order or the
threads.

Source: Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep learning with limited numerical precision", ICML 2015, section
3.1; Zamirai et al., "Revisiting bfloat16 training", 2020.
"""

import numpy as np
from jaxtyping import Float, UInt32

from reference.philox import counters, philox4x32, stream_key
from reference.rounding import FORMATS, round_weights

WORD = 2.0**32


def words(n: int, seed: int, step: int) -> UInt32[np.ndarray, "n"]:
    """A random word for each of n weights in update `step`, from 0."""
    rows = counters(np.arange(-(-n // 4)), 0, step)
    return philox4x32(rows, stream_key(seed, "rounding")).reshape(-1)[:n]


def round_stochastically(x: Float[np.ndarray, "..."], seed: int, step: int) -> Float[np.ndarray, "..."]:
    """x, of any shape, as numbers of bfloat16 in the dtype of x; weights are numbered in C order."""
    bits, smallest, largest = FORMATS["bfloat16"]
    spacing = np.maximum(np.frexp(x)[1] - 1, smallest) - bits + 1
    with np.errstate(over="ignore", invalid="ignore"):
        ulps = np.ldexp(np.abs(x), -spacing)
        below = np.floor(ulps)
        up = words(x.size, seed, step).reshape(x.shape) < (ulps - below) * WORD
        found = np.copysign(np.ldexp(below + up, spacing), x)
    limit = (2.0 - 2.0 ** (1 - bits)) * 2.0**largest
    return np.where(np.abs(x) < limit, found, round_weights(x, "bfloat16")).astype(x.dtype)
