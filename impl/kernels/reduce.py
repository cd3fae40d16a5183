"""Sums, dot products and maxima of contiguous arrays in one fixed order: lanes, then a fixed tree.

Element i goes to lane i modulo 16 (float32) or 8 (float64), ascending; what does not fill a row of lanes goes to lane
0, last. Then the upper half of the lanes is added to the lower, until one is left. The lanes are a vector register
whose width is part of this specification, not of the machine.
"""

import operator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.runtime.compile import intrinsic_or, kernel
from impl.kernels.runtime.fma import fma
from impl.kernels.runtime.vectors import BITS, I32, I64


def _in_python(step, combine, start, widen=False):
    """The reduction as the interpreter does it."""

    def reduced(*arrays):
        arrays = tuple(x.astype(np.float64) for x in arrays) if widen else arrays
        number, size = arrays[0].dtype.type, arrays[0].size
        lanes = BITS // 8 // arrays[0].itemsize
        total = [number(start)] * lanes
        for i in range(size):
            lane = i % lanes if i < size - size % lanes else 0
            total[lane] = step(total[lane], *(x[i] for x in arrays))
        while len(total) > 1:
            half = len(total) // 2
            total = [combine(a, b) for a, b in zip(total[:half], total[half:], strict=True)]
        return total[0]

    return reduced


def _reduction(step, combine, start, arrays, widen=False):
    """An intrinsic of `arrays` contiguous arrays of one dtype: `step` for each row of lanes, `combine` for the tree.

    With `widen` in float64, whatever the dtype.
    """
    twin = _in_python(_TWINS[step], _TWINS[combine], start, widen)

    def codegen(context, builder, signature, args):
        made = [
            context.make_array(kind)(context, builder, value=x)
            for kind, x in zip(signature.args, args, strict=True)
        ]
        given = made[0].data.type.pointee
        element = ir.DoubleType() if widen else given
        lanes = BITS // (64 if widen else signature.args[0].dtype.bitwidth)
        vector = ir.VectorType(element, lanes)

        def load(x, place, count):
            """`count` of the array x from `place`, as the reduction wants them."""
            where = builder.gep(x.data, [place])
            if count == 1:
                value = builder.load(where)
            else:
                value = builder.load(
                    builder.bitcast(where, ir.VectorType(given, count).as_pointer()), align=4
                )
            return value if given == element else builder.fpext(value, vector if count > 1 else element)

        (size,) = cgutils.unpack_tuple(builder, made[0].shape, 1)
        rows = builder.sdiv(size, I64(lanes))
        total = cgutils.alloca_once_value(builder, ir.Constant(vector, [ir.Constant(element, start)] * lanes))
        with cgutils.for_range(builder, rows) as row:
            offset = builder.mul(row.index, I64(lanes))
            loaded = [load(x, offset, lanes) for x in made]
            builder.store(step(builder, vector, builder.load(total), *loaded), total)
        value = builder.load(total)
        first = builder.extract_element(value, I32(0))
        kept = cgutils.alloca_once_value(builder, first)
        with cgutils.for_range(builder, builder.sub(size, builder.mul(rows, I64(lanes)))) as rest:
            place = builder.add(builder.mul(rows, I64(lanes)), rest.index)
            loaded = [load(x, place, 1) for x in made]
            builder.store(step(builder, element, builder.load(kept), *loaded), kept)
        value = builder.insert_element(value, builder.load(kept), I32(0))
        while lanes > 1:
            lanes //= 2
            low, high = (
                builder.shuffle_vector(
                    value, value, ir.Constant(ir.VectorType(I32, lanes), [*range(a, a + lanes)])
                )
                for a in (0, lanes)
            )
            value = combine(builder, low.type, low, high)
        return builder.extract_element(value, I32(0))

    if arrays == 1:

        @intrinsic_or(twin)
        def reduced(typingctx, x):
            return (types.float64 if widen else x.dtype)(x), codegen

    else:

        @intrinsic_or(twin)
        def reduced(typingctx, x, y):
            return x.dtype(x, y), codegen

    return reduced


def _plus(builder, kind, a, b):
    return builder.fadd(a, b)


def _fused(builder, kind, total, x, y):
    suffix = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    bits = "f32" if getattr(kind, "element", kind) == ir.FloatType() else "f64"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.{suffix}{bits}"
    )
    return builder.call(function, [x, y, total])


def _square(builder, kind, total, x):
    return _fused(builder, kind, total, x, x)


def _larger(builder, kind, a, b):
    """b if it is larger, or a; a NaN is passed over."""
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def _greater(a, b):
    return b if b > a else a


_TWINS = {_plus: operator.add, _fused: lambda total, x, y: fma(x, y, total), _larger: _greater}
_TWINS |= {_square: lambda total, x: fma(x, x, total)}

row_sum = _reduction(_plus, _plus, 0.0, 1)
row_dot = _reduction(_fused, _plus, 0.0, 2)
row_max = _reduction(_larger, _larger, -np.inf, 1)
_row_squares = _reduction(_square, _plus, 0.0, 1, widen=True)


STRETCH = 4096
"""Numbers whose squares are added up in lanes; these sums then are, one after the other."""


@kernel
def sum_squares(x):
    """Sum of x[i]^2 over a flat array of any float type, in float64 (squares of float32 are exact there)."""
    total = 0.0
    for start in range(0, x.size, STRETCH):
        total += _row_squares(x[start : start + STRETCH])
    return total
