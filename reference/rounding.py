"""Rounding to half precision (binary16) and bfloat16, to nearest, ties to even.

A format with p significant bits and smallest exponent e_min has, around x, the spacing 2^(max(e, e_min) - p + 1) with
2^e <= |x| < 2^(e + 1). Rounding is one rounding of x / spacing to an integer. Source: IEEE 754-2019, section 4.3.1.
Going through single precision on the way to bfloat16 rounds twice and is wrong.
"""

import numpy as np
from jaxtyping import Float

# significant bits, smallest normal exponent, largest exponent
FORMATS = {"float16": (11, -14, 15), "bfloat16": (8, -126, 127)}


def round_weights(x: Float[np.ndarray, "..."], form: str) -> Float[np.ndarray, "..."]:
    """x rounded to `form` ("float16" or "bfloat16"), in the dtype of x. Beyond the largest number: infinity.

    KeyError for any other format.
    """
    bits, smallest, largest = FORMATS[form]
    exponent = np.frexp(x)[1] - 1  # frexp's fraction is in [1/2, 1)
    spacing = np.maximum(exponent, smallest) - bits + 1
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.ldexp(np.rint(np.ldexp(x, -spacing)), spacing)
        overflow = np.abs(rounded) >= np.ldexp(1.0, largest + 1)
    return np.where(np.isfinite(x), np.where(overflow, np.copysign(np.inf, x), rounded), x).astype(x.dtype)


FLOAT8 = {"float8_e4m3fn": (4, -6, 448.0), "float8_e5m2": (3, -14, 57344.0)}
"""Significant bits, smallest normal exponent, largest number (Micikevicius et al., "FP8 formats", 2022, table 1)."""


def round_float8(x: Float[np.ndarray, "..."], form: str, overflow: str = "nan") -> Float[np.ndarray, "..."]:
    """x rounded to an 8-bit format to nearest, ties to even, in the dtype of x. KeyError for any other format.

    Beyond the largest number: infinity in float8_e5m2; in float8_e4m3fn, which has none, NaN, or with `overflow` "448"
    that number with the sign of x.
    """
    bits, smallest, largest = FLOAT8[form]
    exponent = np.frexp(x)[1] - 1
    spacing = np.maximum(exponent, smallest) - bits + 1
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.ldexp(np.rint(np.ldexp(x, -spacing)), spacing)
        beyond = np.abs(np.where(np.isfinite(x), rounded, x)) > largest
    limit = {"float8_e5m2": np.inf, "float8_e4m3fn": np.nan if overflow == "nan" else largest}[form]
    return np.where(beyond, np.copysign(limit, x), np.where(np.isnan(x), x, rounded)).astype(x.dtype)
