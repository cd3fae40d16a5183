"""Arrays that begin on a cache line: a vector that lies on two of them costs GEMM a fifth of its speed."""

import math
from typing import Any

import numpy as np

from impl.kernels.compile import kernel

LINE = 64
"""Bytes; as long as the longest vector."""


def zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """np.zeros(shape, dtype), on a cache line."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    dtype = np.dtype(dtype)
    room = np.zeros(math.prod(shape) + LINE // dtype.itemsize, dtype)
    first = -room.ctypes.data % LINE // dtype.itemsize
    return room[first : first + math.prod(shape)].reshape(shape)


@kernel
def matrix(rows, columns, like):
    """The same for a kernel's own use: [rows, columns] of the dtype of `like`, its contents undefined."""
    size = rows * columns
    room = np.empty(size + LINE // like.itemsize, like.dtype)
    first = -room.ctypes.data % LINE // like.itemsize
    return room[first : first + size].reshape(rows, columns)
