"""Philox4x32-10, a counter-based generator (Salmon et al. 2011): random bits as a function of (key, counter).

It has no state, so a value depends neither on threads nor on the order in which values are drawn.
"""

import numpy as np

from impl.kernels.runtime.compile import kernel, llvm_inlined

_MULTIPLY_0, _MULTIPLY_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@llvm_inlined
def philox(key_0, key_1, c0, c1, c2, c3):
    """Four uint32 from a counter of four uint32 and a key of two.

    The words are kept in the lower halves of uint64 variables, so that vectors keep their width. What a product leaves
    in the upper half is never read, so it is not cleared.
    """
    c0, c1, c2, c3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    for _ in range(10):
        product_0 = _MULTIPLY_0 * (c0 & _LOW)
        product_1 = _MULTIPLY_1 * (c2 & _LOW)
        c0, c2 = (product_1 >> _HALF) ^ c1 ^ np.uint64(key_0), (product_0 >> _HALF) ^ c3 ^ np.uint64(key_1)
        c1, c3 = product_1, product_0
        key_0, key_1 = np.uint32(key_0 + _WEYL_0), np.uint32(key_1 + _WEYL_1)
    return np.uint32(c0 & _LOW), np.uint32(c1 & _LOW), np.uint32(c2 & _LOW), np.uint32(c3 & _LOW)


@kernel
def philox_block(key, first, c1, c2, c3, out):
    """out[i] = the four uint32 of counter (first + i, c1, c2, c3); key uint32 [2], out uint32 [n, 4]."""
    c1, c2, c3 = np.uint32(c1), np.uint32(c2), np.uint32(c3)
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = philox(key[0], key[1], np.uint32(first + i), c1, c2, c3)
