"""Fused multiply-add: a * b + c rounded once (IEEE 754-2008). LLVM never fuses on its own without fastmath."""

from fractions import Fraction

import numpy as np
from numba.core import types

from impl.kernels.runtime.compile import intrinsic_or


def fused(a, b, c):
    """The same in Python: an exact fraction, rounded once. To float32 it goes through float64, rounded to odd."""
    number = type(c) if isinstance(c, np.floating) else np.float64
    if not (np.isfinite(a) and np.isfinite(b)):
        return number(a * b + c)
    if not np.isfinite(c):
        return number(c)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:  # a zero has the sign that the unfused sum has
        return number(float(a) * float(b) + float(c))
    try:
        nearest = float(exact)
    except OverflowError:
        return number(np.inf if exact > 0 else -np.inf)
    if number is np.float64 or Fraction(nearest) == exact:
        return number(nearest)
    bits = np.float64(nearest).view(np.int64)
    if bits % 2 == 0:  # to the neighbour on the other side of the exact value, whose last bit is odd
        outward = abs(exact) > abs(Fraction(nearest))
        nearest = float((bits + (1 if outward else -1)).view(np.float64))
    return number(nearest)


@intrinsic_or(fused)
def fma(typingctx, a, b, c):
    """a * b + c of three scalars of one floating-point type; a libm call, with the same bits, on a CPU without it."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, b, c), codegen
