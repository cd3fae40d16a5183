"""Fused multiply-add: a * b + c rounded once (IEEE 754-2008). LLVM never fuses on its own without fastmath."""

from numba.core import types
from numba.extending import intrinsic


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c of three scalars of one floating-point type; a libm call, with the same bits, on a CPU without it."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, b, c), codegen
