"""Arrays that begin on a cache line: a vector that lies on two of them costs GEMM a fifth of its speed."""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.np.arrayobj import populate_array

from impl.kernels.runtime.compile import intrinsic_or
from impl.kernels.runtime.vectors import I64

LINE = 64
"""Bytes; as long as the longest vector."""
BYTES = ir.IntType(8).as_pointer()


def zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """np.zeros(shape, dtype), on a cache line."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    dtype = np.dtype(dtype)
    room = np.zeros(math.prod(shape) + LINE // dtype.itemsize, dtype)
    first = -room.ctypes.data % LINE // dtype.itemsize
    return room[first : first + math.prod(shape)].reshape(shape)


@intrinsic_or(lambda rows, columns, like: np.empty((rows, columns), like.dtype))
def scratch(typingctx, rows, columns, like):
    """The same for a kernel's own use: [rows, columns] of the dtype of `like`, its contents undefined.

    Nobody counts who refers to it: `free` it. MemoryError if there is none.
    """
    made = types.Array(like.dtype, 2, "C")

    def codegen(context, builder, signature, args):
        itemsize = I64(like.dtype.bitwidth // 8)
        pitch = builder.mul(args[1], itemsize)
        size = builder.add(builder.mul(args[0], pitch), I64(LINE))  # more than asked for, and never 0
        kind = ir.FunctionType(BYTES, [I64, I64])
        allocate = cgutils.get_or_insert_function(builder.module, kind, "aligned_alloc")
        room = builder.call(allocate, [I64(LINE), builder.and_(size, I64(-LINE))])
        with cgutils.if_unlikely(builder, cgutils.is_null(builder, room)):
            context.call_conv.return_user_exc(builder, MemoryError, ("no memory for a kernel",))
        array = context.make_array(made)(context, builder)
        data = builder.bitcast(room, array.data.type)
        populate_array(array, data, args[:2], [pitch, itemsize], itemsize, meminfo=None)
        return array._getvalue()

    return made(rows, columns, like), codegen


@intrinsic_or(lambda x: None)
def free(typingctx, x):
    """Give back what `scratch` gave."""

    def codegen(context, builder, signature, args):
        array = context.make_array(x)(context, builder, value=args[0])
        kind = ir.FunctionType(ir.VoidType(), [BYTES])
        function = cgutils.get_or_insert_function(builder.module, kind, "free")
        builder.call(function, [builder.bitcast(array.data, BYTES)])
        return context.get_dummy_value()

    return types.void(x), codegen
