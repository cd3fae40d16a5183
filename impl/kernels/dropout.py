"""Inverted dropout (Srivastava et al. 2014) with masks that are a function of (key, step, site, element)."""

import numpy as np

from impl.kernels.philox import philox
from impl.kernels.runtime.compile import kernel


@kernel
def dropout_keep(key, step, site, threshold, places, keep):
    """Which elements survive: keep bool [N, D], contiguous; places int64 [N], of the rows in the window.

    A place is sequence * context + position, `context` being the longest length the model knows, so that it depends
    neither on padding nor on how a batch is cut. An element's number is place * D + feature. Its 32 bits are lane
    number % 4 of counter (number // 4, site, step); it survives if they are at least `threshold`.
    """
    width = keep.shape[1]
    site, low, high = np.uint32(site), np.uint32(step), np.uint32(step >> 32)
    if width % 4 == 0:
        n = 0
        while n < keep.shape[0]:
            end = n + 1
            while end < keep.shape[0] and places[end] == places[end - 1] + 1:
                end += 1
            _keep_in_a_row(key, places[n] * (width // 4), site, low, high, threshold, keep[n:end].reshape(-1))
            n = end
    else:
        for n in range(keep.shape[0]):
            for d in range(width):
                number = places[n] * width + d
                lanes = philox(key[0], key[1], np.uint32(number // 4), site, low, high)
                keep[n, d] = lanes[number % 4] >= threshold


@kernel
def _keep_in_a_row(key, first, site, low, high, threshold, keep):
    """The same for the elements that follow each other from counter `first` on; keep flat."""
    for i in range(keep.size // 4):
        u0, u1, u2, u3 = philox(key[0], key[1], np.uint32(first + i), site, low, high)
        keep[4 * i] = u0 >= threshold
        keep[4 * i + 1] = u1 >= threshold
        keep[4 * i + 2] = u2 >= threshold
        keep[4 * i + 3] = u3 >= threshold


@kernel
def apply_keep(x, keep, scale, out):
    """out = x * scale where kept, 0 elsewhere; forward and backward are the same map."""
    zero = x.dtype.type(0.0)
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            out[n, d] = x[n, d] * scale if keep[n, d] else zero


@kernel
def drop(x, keep, scale):
    """The same in place; by name, as LLVM vectorises no loop whose result may be one of its operands."""
    zero = x.dtype.type(0.0)
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            x[n, d] = x[n, d] * scale if keep[n, d] else zero
