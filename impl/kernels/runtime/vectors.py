"""Loads and stores of 512-bit vectors in LLVM IR; on a CPU with narrower registers LLVM uses several for one.

The number of lanes is part of what a reduction specifies; it does not depend on the machine.
"""

from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.runtime.compile import intrinsic_or_python

VECTOR_BITS = 512
I32, I64 = ir.IntType(32), ir.IntType(64)


@intrinsic_or_python(lambda x: VECTOR_BITS // 8 // x.itemsize)
def lanes(typingctx, x):
    """How many elements of array x a vector holds: 16 of float32, 8 of float64."""
    count = VECTOR_BITS // x.dtype.bitwidth

    def codegen(context, builder, signature, args):
        return I64(count)

    return types.intp(x), codegen


def address(builder, array, row, column):
    """The address of array[row, column] as an integer; strides are in bytes."""
    strides = cgutils.unpack_tuple(builder, array.strides, 2)
    offset = builder.add(builder.mul(row, strides[0]), builder.mul(column, strides[1]))
    return builder.add(builder.ptrtoint(array.data, I64), offset)


def load(builder, where, vector):
    """The vector at the address `where`, which need only be aligned as one element is."""
    return builder.load(builder.inttoptr(where, vector.as_pointer()), align=_alignment(vector))


def store(builder, value, where):
    """Write a vector to the address `where`, which need only be aligned as one element is."""
    builder.store(value, builder.inttoptr(where, value.type.as_pointer()), align=_alignment(value.type))


def prefetch(builder, where):
    """Software prefetch of the cache line at an address; the address may be outside any allocated memory."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    read, high_locality, data = I32(0), I32(3), I32(1)
    builder.call(function, [builder.inttoptr(where, pointer), read, high_locality, data])


def _alignment(vector):
    """Bytes of one element."""
    return 4 if vector.element == ir.FloatType() else 8
