"""Fused multiply-add: a * b + c rounded once (IEEE 754-2008). LLVM never fuses on its own without fastmath."""

from fractions import Fraction

import numpy as np
from numba.core import types

from impl.kernels.runtime.compile import intrinsic_or_python


def _fma_in_python(a, b, c):
    """The exact value as a fraction, rounded once. A float32 is rounded from a float64 that was rounded to odd."""
    number = type(c) if isinstance(c, np.floating) else np.float64
    if not (np.isfinite(a) and np.isfinite(b)):
        return number(a * b + c)
    if not np.isfinite(c):
        return number(c)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:  # a zero has the sign of the unfused sum
        return number(float(a) * float(b) + float(c))
    try:
        nearest = float(exact)
    except OverflowError:
        return number(np.inf if exact > 0 else -np.inf)
    if number is np.float64 or Fraction(nearest) == exact:
        return number(nearest)
    bits = np.float64(nearest).view(np.int64)
    if (
        bits % 2 == 0
    ):  # round to odd: take the neighbour on the other side of the exact value, whose last bit is 1
        outward = abs(exact) > abs(Fraction(nearest))
        nearest = float((bits + (1 if outward else -1)).view(np.float64))
    return number(nearest)


@intrinsic_or_python(_fma_in_python)
def fma(typingctx, a, b, c):
    """a * b + c for scalars of one floating-point type. A CPU without the instruction calls libm: same bits, slow."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, b, c), codegen
