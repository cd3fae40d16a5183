"""Sums, dot products and maxima of contiguous arrays in one fixed order: in lanes, then by a fixed tree.

Element i belongs to lane i modulo 16 (float32) or 8 (float64); each lane reduces its elements in ascending order. The
remainder, fewer elements than lanes, is added to lane 0 after the vector loop. Then the upper half of the lanes is
added to the lower half until one is left. The number of lanes is part of this specification; it does not depend on
the machine.
"""

import operator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.runtime.compile import intrinsic_or_python, kernel
from impl.kernels.runtime.fma import fma
from impl.kernels.runtime.vectors import I32, I64, VECTOR_BITS


def _reduction_in_python(step, combine, start, in_float64):
    def reduction(*arrays):
        arrays = tuple(x.astype(np.float64) for x in arrays) if in_float64 else arrays
        number, size = arrays[0].dtype.type, arrays[0].size
        lanes = VECTOR_BITS // 8 // arrays[0].itemsize
        total = [number(start)] * lanes
        for i in range(size):
            lane = i % lanes if i < size - size % lanes else 0
            total[lane] = step(total[lane], *(x[i] for x in arrays))
        while len(total) > 1:
            half = len(total) // 2
            total = [combine(a, b) for a, b in zip(total[:half], total[half:], strict=True)]
        return total[0]

    return reduction


def _reduction(step, combine, start, arrays, in_float64=False):
    """An intrinsic that reduces one or two contiguous arrays of one dtype.

    Every lane begins with `start`; `step` adds elements to the lanes, `combine` is the node of the tree.
    With `in_float64` the lanes are float64, whatever the dtype of the arrays.
    """

    def codegen(context, builder, signature, args):
        inputs = [
            context.make_array(kind)(context, builder, value=x)
            for kind, x in zip(signature.args, args, strict=True)
        ]
        element = ir.DoubleType() if in_float64 else inputs[0].data.type.pointee
        lanes = VECTOR_BITS // (32 if element == ir.FloatType() else 64)
        vector = ir.VectorType(element, lanes)
        (size,) = cgutils.unpack_tuple(builder, inputs[0].shape, 1)
        rows = builder.sdiv(size, I64(lanes))
        tail = builder.mul(rows, I64(lanes))  # where the elements begin that do not fill a row of lanes
        total = ir.Constant(vector, [ir.Constant(element, start)] * lanes)
        total = _accumulate(builder, step, total, inputs, I64(0), rows)
        lane_0 = builder.extract_element(total, I32(0))
        lane_0 = _accumulate(builder, step, lane_0, inputs, tail, builder.sub(size, tail))
        total = builder.insert_element(total, lane_0, I32(0))
        return _combine_lanes(builder, combine, total)

    python = _reduction_in_python(_PYTHON[step], _PYTHON[combine], start, in_float64)
    if arrays == 1:

        @intrinsic_or_python(python)
        def reduction(typingctx, x):
            return (types.float64 if in_float64 else x.dtype)(x), codegen

    else:

        @intrinsic_or_python(python)
        def reduction(typingctx, x, y):
            return x.dtype(x, y), codegen

    return reduction


def _accumulate(builder, step, total, arrays, first, steps):
    """Apply `step` to `total` and elements of each array, `steps` times from element `first` on.

    `total` is a vector or a scalar; elements are read in vectors of as many lanes, or one by one.
    """
    kind = total.type
    count = getattr(kind, "count", 1)
    variable = cgutils.alloca_once_value(builder, total)
    with cgutils.for_range(builder, steps) as loop:
        index = builder.add(first, builder.mul(loop.index, I64(count)))
        elements = [_load(builder, x, index, kind) for x in arrays]
        builder.store(step(builder, kind, builder.load(variable), *elements), variable)
    return builder.load(variable)


def _load(builder, array, index, kind):
    """The elements of a flat array from `index` on as a value of type `kind`, a vector or a scalar."""
    where, stored = builder.gep(array.data, [index]), array.data.type.pointee
    if isinstance(kind, ir.VectorType):
        pointer = ir.VectorType(stored, kind.count).as_pointer()
        value = builder.load(builder.bitcast(where, pointer), align=4)
    else:
        value = builder.load(where)
    return value if value.type == kind else builder.fpext(value, kind)


def _combine_lanes(builder, combine, vector):
    """Combine the upper half of the lanes with the lower half until one lane is left; its value."""
    half = vector.type.count // 2
    while half > 0:
        low, high = (
            builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(I32, half), [*range(first, first + half)])
            )
            for first in (0, half)
        )
        vector = combine(builder, low.type, low, high)
        half //= 2
    return builder.extract_element(vector, I32(0))


def _plus(builder, kind, a, b):
    return builder.fadd(a, b)


def _add_product(builder, kind, total, x, y):
    suffix = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    bits = "f32" if getattr(kind, "element", kind) == ir.FloatType() else "f64"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.{suffix}{bits}"
    )
    return builder.call(function, [x, y, total])


def _add_square(builder, kind, total, x):
    return _add_product(builder, kind, total, x, x)


def _maximum(builder, kind, a, b):
    """b if it is larger, else a; a NaN in b is ignored."""
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


_PYTHON = {
    _plus: operator.add,
    _add_product: lambda total, x, y: fma(x, y, total),
    _add_square: lambda total, x: fma(x, x, total),
    _maximum: lambda a, b: b if b > a else a,
}
"""The same operations for the interpreter."""

row_sum = _reduction(_plus, _plus, 0.0, 1)
row_dot = _reduction(_add_product, _plus, 0.0, 2)
row_max = _reduction(_maximum, _maximum, -np.inf, 1)
_row_squares = _reduction(_add_square, _plus, 0.0, 1, in_float64=True)


REDUCTION_BLOCK = 4096
"""Elements in a block of `sum_squares`: it sums each block in lanes, and adds the sums of the blocks in order."""


@kernel
def sum_squares(x):
    """Sum of x[i]^2 over a flat array of any float type, in float64 (squares of float32 are exact there)."""
    total = 0.0
    for start in range(0, x.size, REDUCTION_BLOCK):
        total += _row_squares(x[start : start + REDUCTION_BLOCK])
    return total
