"""Vector registers of 512 bits, as LLVM is told of them; on a narrower machine it takes several for one.

How many numbers one holds is part of what a reduction specifies, not of the machine it runs on.
"""

from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.runtime.compile import intrinsic_or

BITS = 512
I32, I64 = ir.IntType(32), ir.IntType(64)


@intrinsic_or(lambda x: BITS // 8 // x.itemsize)
def lanes(typingctx, x):
    """Elements of x in a vector: 16 for float32, 8 for float64."""
    count = BITS // x.dtype.bitwidth

    def codegen(context, builder, signature, args):
        return I64(count)

    return types.intp(x), codegen


def address(builder, array, row, column):
    """Of array[row, column], an integer, from its strides in bytes."""
    strides = cgutils.unpack_tuple(builder, array.strides, 2)
    offset = builder.add(builder.mul(row, strides[0]), builder.mul(column, strides[1]))
    return builder.add(builder.ptrtoint(array.data, I64), offset)


def load(builder, where, vector):
    """The vector at an address that may be any of its elements'."""
    return builder.load(builder.inttoptr(where, vector.as_pointer()), align=_aligned(vector))


def store(builder, value, where):
    """Write a vector to an address."""
    builder.store(value, builder.inttoptr(where, value.type.as_pointer()), align=_aligned(value.type))


def prefetch(builder, where):
    """Ask for the cache line at an address, which need not be anybody's, and do not wait for it."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [builder.inttoptr(where, pointer), I32(0), I32(3), I32(1)])  # to read, and to keep


def _aligned(vector):
    """Bytes of an element: all that is known of where a vector begins."""
    return 4 if vector.element == ir.FloatType() else 8
