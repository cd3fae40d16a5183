"""Arrays that begin on a cache line. GEMM loses a fifth of its speed if its vectors straddle two lines."""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.np.arrayobj import populate_array

from impl.kernels.runtime.compile import intrinsic_or_python
from impl.kernels.runtime.vectors import I64

CACHE_LINE = 64
"""Bytes; also the size of a vector."""
_BYTE_POINTER = ir.IntType(8).as_pointer()


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """np.zeros(shape, dtype) that begins on a cache line; for Python code."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    dtype = np.dtype(dtype)
    buffer = np.zeros(math.prod(shape) + CACHE_LINE // dtype.itemsize, dtype)
    first = -buffer.ctypes.data % CACHE_LINE // dtype.itemsize
    return buffer[first : first + math.prod(shape)].reshape(shape)


@intrinsic_or_python(lambda rows, columns, like: np.empty((rows, columns), like.dtype))
def allocate(typingctx, rows, columns, like):
    """An uninitialised array [rows, columns] of the dtype of `like` that begins on a cache line; for kernels.

    It is not reference-counted: release it with `free`. MemoryError if there is not enough memory.
    """
    array_type = types.Array(like.dtype, 2, "C")

    def codegen(context, builder, signature, args):
        itemsize = I64(like.dtype.bitwidth // 8)
        pitch = builder.mul(args[1], itemsize)
        size = builder.add(builder.mul(args[0], pitch), I64(CACHE_LINE))  # more than asked for, so never 0
        kind = ir.FunctionType(_BYTE_POINTER, [I64, I64])
        aligned_alloc = cgutils.get_or_insert_function(builder.module, kind, "aligned_alloc")
        pointer = builder.call(aligned_alloc, [I64(CACHE_LINE), builder.and_(size, I64(-CACHE_LINE))])
        with cgutils.if_unlikely(builder, cgutils.is_null(builder, pointer)):
            context.call_conv.return_user_exc(builder, MemoryError, ("no memory for a kernel",))
        array = context.make_array(array_type)(context, builder)
        data = builder.bitcast(pointer, array.data.type)
        populate_array(array, data, args[:2], [pitch, itemsize], itemsize, meminfo=None)
        return array._getvalue()

    return array_type(rows, columns, like), codegen


@intrinsic_or_python(lambda x: None)
def free(typingctx, x):
    """Release an array that `allocate` returned."""

    def codegen(context, builder, signature, args):
        array = context.make_array(x)(context, builder, value=args[0])
        kind = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER])
        function = cgutils.get_or_insert_function(builder.module, kind, "free")
        builder.call(function, [builder.bitcast(array.data, _BYTE_POINTER)])
        return context.get_dummy_value()

    return types.void(x), codegen
