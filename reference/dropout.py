"""Inverted dropout whose mask is a function of (seed, step, site, row, position, feature).

Each entry has its own 32-bit word; it is kept when the word is at least floor(p 2^32), and a kept value is divided by
1 - p so that the mean does not change (Srivastava et al., JMLR 15, 2014, section 10). Nothing is drawn in sequence:
threads, batch splits and the length of the batch cannot change a mask.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, UInt32

from reference.philox import counters, philox4x32, stream_key


def mask_words(
    shape: tuple[int, int, int], *, seed: int, step: int, site: int, context: int
) -> UInt32[np.ndarray, "B T D"]:
    """The word of each entry, of an array of `shape` (B, T, D) whose rows are `context` positions apart in the counter.

    Sites: 0 embedding output, 1 + 2l attention branch and 2 + 2l FFN branch of block l. Steps count from 0.
    """
    rows, length, width = (np.arange(n, dtype=np.uint64) for n in shape)
    index = (rows[:, None, None] * np.uint64(context) + length[:, None]) * np.uint64(shape[2]) + width
    blocks, block_of = np.unique(index // np.uint64(4), return_inverse=True)
    words = philox4x32(counters(blocks, site, step), stream_key(seed, "control"))
    return words[block_of.reshape(-1), (index % np.uint64(4)).reshape(-1).astype(int)].reshape(shape)


def kept(
    shape: tuple[int, int, int], p: float, *, seed: int, step: int, site: int, context: int
) -> Bool[np.ndarray, "B T D"]:
    """Which entries are kept: those whose word is at least floor(p 2^32). 0 <= p < 1."""
    words = mask_words(shape, seed=seed, step=step, site=site, context=context)
    return words >= math.floor(p * 2**32)


def dropout(
    x: Float[np.ndarray, "B T D"], p: float, seed: int, step: int, site: int, context: int
) -> Float[np.ndarray, "B T D"]:
    """x with an expected share p of its entries set to 0 and the others divided by 1 - p. 0 <= p < 1; steps from 0."""
    mask = kept(x.shape, p, seed=seed, step=step, site=site, context=context)
    return np.where(mask, x / (1.0 - p), 0.0)
