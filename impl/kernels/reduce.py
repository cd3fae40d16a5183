"""Sums, dot products and maxima of contiguous arrays in one fixed order: lanes, then a fixed tree.

Element i goes to lane i modulo 16 (float32) or 8 (float64), ascending; what does not fill a row of lanes goes to lane
0, last. Then the upper half of the lanes is added to the lower, until one is left. The lanes are a vector register
whose width is part of this specification, not of the machine.
"""

import operator

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from impl.kernels.compile import intrinsic_or, kernel
from impl.kernels.fma import fma

_VECTOR_BITS = 512
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _in_python(step, combine, start):
    """The reduction as the interpreter does it."""

    def reduced(*arrays):
        number, size = arrays[0].dtype.type, arrays[0].size
        lanes = _VECTOR_BITS // 8 // arrays[0].itemsize
        total = [number(start)] * lanes
        for i in range(size):
            lane = i % lanes if i < size - size % lanes else 0
            total[lane] = step(total[lane], *(x[i] for x in arrays))
        while len(total) > 1:
            half = len(total) // 2
            total = [combine(a, b) for a, b in zip(total[:half], total[half:], strict=True)]
        return total[0]

    return reduced


def _reduction(step, combine, start, arrays, twin):
    """An intrinsic of `arrays` contiguous arrays of one dtype: `step` for each row of lanes, `combine` for the tree."""

    def codegen(context, builder, signature, args):
        made = [
            context.make_array(kind)(context, builder, value=x)
            for kind, x in zip(signature.args, args, strict=True)
        ]
        element = made[0].data.type.pointee
        lanes = _VECTOR_BITS // signature.args[0].dtype.bitwidth
        vector = ir.VectorType(element, lanes)
        (size,) = cgutils.unpack_tuple(builder, made[0].shape, 1)
        rows = builder.sdiv(size, _I64(lanes))
        total = cgutils.alloca_once_value(builder, ir.Constant(vector, [ir.Constant(element, start)] * lanes))
        with cgutils.for_range(builder, rows) as row:
            offset = builder.mul(row.index, _I64(lanes))
            loaded = [
                builder.load(builder.bitcast(builder.gep(x.data, [offset]), vector.as_pointer()), align=4)
                for x in made
            ]
            builder.store(step(builder, vector, builder.load(total), *loaded), total)
        value = builder.load(total)
        first = builder.extract_element(value, _I32(0))
        kept = cgutils.alloca_once_value(builder, first)
        with cgutils.for_range(builder, builder.sub(size, builder.mul(rows, _I64(lanes)))) as rest:
            place = builder.add(builder.mul(rows, _I64(lanes)), rest.index)
            loaded = [builder.load(builder.gep(x.data, [place])) for x in made]
            builder.store(step(builder, element, builder.load(kept), *loaded), kept)
        value = builder.insert_element(value, builder.load(kept), _I32(0))
        while lanes > 1:
            lanes //= 2
            low, high = (
                builder.shuffle_vector(
                    value, value, ir.Constant(ir.VectorType(_I32, lanes), [*range(a, a + lanes)])
                )
                for a in (0, lanes)
            )
            value = combine(builder, low.type, low, high)
        return builder.extract_element(value, _I32(0))

    if arrays == 1:

        @intrinsic_or(twin)
        def reduced(typingctx, x):
            return x.dtype(x), codegen

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


def _larger(builder, kind, a, b):
    """b if it is larger, or a; a NaN is passed over."""
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def _greater(a, b):
    return b if b > a else a


row_sum = _reduction(_plus, _plus, 0.0, 1, _in_python(operator.add, operator.add, 0.0))
row_dot = _reduction(
    _fused, _plus, 0.0, 2, _in_python(lambda total, x, y: fma(x, y, total), operator.add, 0.0)
)
row_max = _reduction(_larger, _larger, -np.inf, 1, _in_python(_greater, _greater, -np.inf))


@kernel
def sum_squares(x):
    """Sum of x[i]^2 over a flat array of any float type, in float64 (squares of float32 are exact there)."""
    total = 0.0
    for start in range(0, x.size, 4096):
        block = x[start : start + 4096].astype("float64")
        total += row_dot(block, block)
    return total
