"""Inverted dropout (Srivastava et al. 2014) with masks that are a function of (key, step, site, element).

A site is one of the places in a model where dropout is applied.
"""

import numpy as np

from impl.kernels.philox import philox
from impl.kernels.runtime.compile import kernel


@kernel
def dropout_mask(key, step, site, threshold, mask_index, keep):
    """Which elements are kept: keep bool [N, D], contiguous; mask_index int64 [N], one for each row.

    mask_index = sequence * context + position, where `context` is the model's longest length and sequences are
    counted over all micro-batches of an update: it depends neither on padding nor on how a batch is split. The element
    has number i = mask_index * D + feature. Its 32 random bits are word i % 4 of the Philox counter (i // 4, site,
    step); it is kept if they are at least `threshold`.
    """
    width = keep.shape[1]
    site, low, high = np.uint32(site), np.uint32(step), np.uint32(step >> 32)
    if width % 4 == 0:
        n = 0
        while n < keep.shape[0]:  # the counters of rows with consecutive mask indices are consecutive
            end = n + 1
            while end < keep.shape[0] and mask_index[end] == mask_index[end - 1] + 1:
                end += 1
            first = mask_index[n] * (width // 4)
            _mask_from_counter(key, first, site, low, high, threshold, keep[n:end].reshape(-1))
            n = end
    else:
        for n in range(keep.shape[0]):
            for d in range(width):
                i = mask_index[n] * width + d
                words = philox(key[0], key[1], np.uint32(i // 4), site, low, high)
                keep[n, d] = words[i % 4] >= threshold


@kernel
def _mask_from_counter(key, first, site, low, high, threshold, keep):
    """As `dropout_mask`, for consecutive elements, four for each counter from `first` on; keep flat."""
    for i in range(keep.size // 4):
        u0, u1, u2, u3 = philox(key[0], key[1], np.uint32(first + i), site, low, high)
        keep[4 * i] = u0 >= threshold
        keep[4 * i + 1] = u1 >= threshold
        keep[4 * i + 2] = u2 >= threshold
        keep[4 * i + 3] = u3 >= threshold


@kernel
def apply_mask(x, keep, scale, out):
    """out = x * scale where kept, 0 elsewhere; all [N, D]. The backward pass is the same function of the gradient."""
    zero = x.dtype.type(0.0)
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            out[n, d] = x[n, d] * scale if keep[n, d] else zero


@kernel
def apply_mask_in_place(x, keep, scale):
    """As `apply_mask`, with out = x; kernels/elementwise.py explains why this is a function of its own."""
    zero = x.dtype.type(0.0)
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            x[n, d] = x[n, d] * scale if keep[n, d] else zero
