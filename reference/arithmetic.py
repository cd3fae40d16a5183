"""The model of floating-point arithmetic: how large the rounding error of one operation of a correct subject may be.

A correct subject evaluates the oracle's formula in floating point with unit roundoff u. Then
- each + - * sqrt is rounded once (or not at all: a fused multiply-add only omits roundings);
- a division may be a multiplication by a reciprocal: two roundings;
- a sum or dot product of n terms is added in any order: gamma_n = n u / (1 - n u) times the sum of the magnitudes;
- exp, log, sin, cos, tanh and powers are within `ELEMENTARY_ULPS` units in the last place; erf within `ERF_ULPS`, or
  else erfc, with erf = 1 - erfc;
- a constant that is not exact in single precision is rounded once;
- a result below the normal range has an error of at most the smallest normal number: it may be flushed to 0, as XLA
  does.

traced_array.py applies the model to every operation of an oracle.

Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002: sections 2.2 (the model), 3.1
(gamma_n), 4.2 (any order of summation).
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

SINGLE, DOUBLE = 2.0**-24, 2.0**-53
UNIT = {np.dtype(np.float32): SINGLE, np.dtype(np.float64): DOUBLE}
HALVES = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Unit roundoff of the types of 16 bits, by name: NumPy has no dtype for the second."""
UNDERFLOW = {
    SINGLE: 2.0**-126,
    DOUBLE: 2.0**-1022,
    HALVES["float16"]: 2.0**-24,
    HALVES["bfloat16"]: 2.0**-126,
}
"""Below the normal range: flushed to 0 in the three wide ranges; float16 has its smallest number, 2^-24."""
ELEMENTARY_ULPS = 4
"""Units in the last place a subject's exp, log, sin, cos, tanh and pow may be wrong. NumPy's worst is below 3."""
ERF_ULPS = 6
"""The same for erf, erfc and what is made of them. oneDNN's, in PyTorch's GELU for float32, is 5.6 ulps of 1 off."""
ELEMENTARY = 2 * ELEMENTARY_ULPS
"""The same in roundings: one ulp is at most two units roundoff."""

ROUNDINGS: dict[Any, int] = {
    np.add: 1,
    np.subtract: 1,
    np.multiply: 1,
    np.true_divide: 2,
    np.negative: 0,
    np.sqrt: 1,
    np.exp: ELEMENTARY,
    np.log: ELEMENTARY,
    np.cos: ELEMENTARY,
    np.sin: ELEMENTARY,
    np.tanh: ELEMENTARY,
    np.minimum: 0,
    np.maximum: 0,
    np.absolute: 0,
    np.power: ELEMENTARY,
    special.erf: 2 * ERF_ULPS,
}
MAGNITUDE_DEPENDENT = {np.matmul, np.power}
"""Operations whose error depends on the magnitudes of their operands, not on that of the result alone."""


def unit_roundoff(dtype: Any) -> float:
    """2^-24 for float32, 2^-53 for float64, those of `HALVES` by their names; any other dtype is a TypeError."""
    if isinstance(dtype, str) and dtype in HALVES:
        return HALVES[dtype]
    try:
        return UNIT[np.dtype(dtype)]
    except KeyError:
        raise TypeError(f"bounds are derived for float32 and float64, not for {np.dtype(dtype)}") from None


def gamma(n: float, unit: float) -> float:
    """gamma_n = n u / (1 - n u), the relative error of n roundings in a row; infinite when n u >= 1."""
    return n * unit / (1.0 - n * unit) if n * unit < 1.0 else math.inf


def exact_in_single(value: Float[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Whether each constant needs no rounding, in single precision and hence in double precision."""
    return value.astype(np.float32).astype(np.float64) == value


def constant_error(constant: float, unit: float) -> float:
    """Absolute error of a constant that is rounded once, with unit roundoff `unit`; 0 if single precision holds it."""
    return 0.0 if float(np.float32(constant)) == constant else unit * abs(constant)


def rounding_error(
    ufunc: Any, unit: float, magnitudes: list[np.ndarray], magnitude: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Bound on the absolute error of one operation, of the shape of its result.

    `magnitude` bounds the result, `magnitudes` the operands; only a `MAGNITUDE_DEPENDENT` operation looks at these.
    """
    if ufunc is np.matmul:
        flushed = roundings = magnitudes[0].shape[-1]
        magnitude = magnitudes[0] @ magnitudes[1]
    else:
        roundings = ROUNDINGS[ufunc]
        flushed = min(roundings, 1)
    if ufunc is special.erf:  # it may be computed as 1 - erfc
        magnitude = np.ones_like(magnitude)
    if ufunc is np.power:  # an integer power may also be multiplied out
        roundings += float(np.max(magnitudes[1]))
    error = gamma(roundings, unit) * magnitude
    if flushed and unit in UNDERFLOW:
        error += flushed * UNDERFLOW[unit]
    return error
