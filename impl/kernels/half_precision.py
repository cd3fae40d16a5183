"""Rounding to float16 and bfloat16, to nearest, ties to even, without leaving float32 or float64.

The upper bits are kept: half of the lowest kept bit is added, one unit less if that bit is even, and the rest cut off.
A subnormal float16 is rounded by adding a number whose last bit is worth as much as the format's spacing, which for
bfloat16 is needed in float64 alone.
"""

import math

import numpy as np

from impl.kernels.math_functions import bits, bits_32, from_bits, from_bits_32
from impl.kernels.runtime.compile import by_precision, by_precision_and_word, kernel, llvm_inlined

FULL, FLOAT16, BFLOAT16 = range(3)
"""Numbers of the formats; FULL is that of the array itself."""
_LARGEST_BFLOAT16 = (2.0 - 2.0**-7) * 2.0**127
FORMS = {"none": FULL, "float16": FLOAT16, "bfloat16": BFLOAT16}


@llvm_inlined
def _bfloat16_single(x):
    word = bits_32(x)
    kept = from_bits_32(np.int32((word + 0x7FFF + ((word >> 16) & 1)) & ~0xFFFF))
    return kept if x == x else x


@llvm_inlined
def _float16_single(x):
    word = bits_32(x)
    kept = from_bits_32(np.int32((word + 0xFFF + ((word >> 13) & 1)) & ~0x1FFF))
    size, half = abs(x), np.float32(0.5)
    small = np.float32(size + half) - half
    found = small if size < np.float32(2.0**-14) else abs(kept)
    found = np.float32(np.inf) if found >= np.float32(65536.0) else found
    return (-found if word < 0 else found) if x == x else x


@llvm_inlined
def _bfloat16_double(x):
    word = bits(x)
    kept = from_bits((word + 0xFFFFFFFFFFF + ((word >> 45) & 1)) & ~0x1FFFFFFFFFFF)
    size, shift = abs(x), 2.0**-81
    small = (size + shift) - shift
    found = small if size < 2.0**-126 else abs(kept)
    found = np.inf if found >= 2.0**128 else found
    return (-found if word < 0 else found) if x == x else x


@llvm_inlined
def _float16_double(x):
    word = bits(x)
    kept = from_bits((word + 0x1FFFFFFFFFF + ((word >> 42) & 1)) & ~0x3FFFFFFFFFF)
    size, shift = abs(x), 2.0**28
    small = (size + shift) - shift
    found = small if size < 2.0**-14 else abs(kept)
    found = np.inf if found >= 65536.0 else found
    return (-found if word < 0 else found) if x == x else x


_float16 = by_precision(_float16_single, _float16_double)
_bfloat16 = by_precision(_bfloat16_single, _bfloat16_double)


@kernel
def round_flat(x, form):
    """x [n] = its nearest numbers of a format; as it is if that is FULL."""
    if form == FLOAT16:
        for i in range(x.size):
            x[i] = _float16(x[i])
    elif form == BFLOAT16:
        for i in range(x.size):
            x[i] = _bfloat16(x[i])


@kernel
def round_rows(x, form):
    """`round_flat` of x [N, D], contiguous."""
    if form != FULL:
        round_flat(x.reshape(x.size), form)


@llvm_inlined
def _upper_or_lower_single(x, word):
    """One of the two bfloat16 beside a float32: the larger in magnitude if a random word is below its share of 2^32."""
    whole = bits_32(x)
    up = 0x10000 if (np.int64(word) >> 16) < (whole & 0xFFFF) else 0
    found = from_bits_32(np.int32((whole & ~0xFFFF) + up))
    return found if abs(x) < np.float32(_LARGEST_BFLOAT16) else _bfloat16_single(x)


@llvm_inlined
def _upper_or_lower_double(x, word):
    word_64, size, whole = np.int64(word), abs(x), bits(x)
    up = 0x200000000000 if (word_64 << 13) < (whole & 0x1FFFFFFFFFFF) else 0
    found = abs(from_bits((whole & ~0x1FFFFFFFFFFF) + up))
    ulps = size * 2.0**133
    below = math.floor(ulps)
    small = (below + 1.0 if np.float64(word_64) < (ulps - below) * 2.0**32 else below) * 2.0**-133
    found = small if size < 2.0**-126 else found
    found = -found if whole < 0 else found
    return found if size < _LARGEST_BFLOAT16 else _bfloat16_double(x)


_at_random = by_precision_and_word(_upper_or_lower_single, _upper_or_lower_double)


@kernel
def round_at_random(x, words):
    """x [n] = bfloat16 numbers beside it, by the random words uint32 [n or more]."""
    for i in range(x.size):
        x[i] = _at_random(x[i], words[i])
