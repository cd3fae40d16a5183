"""Cut a flat array into named arrays, as a table of names and shapes says.

A table is a named tuple whose fields are shapes: Pair(weight=(d, f), bias=(f,)). `split` returns the same named tuple
with arrays in place of the shapes. They follow each other in memory in the order of the fields, without gaps.
"""

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.np.arrayobj import populate_array

from impl.kernels.runtime.compile import intrinsic_or_python
from impl.kernels.runtime.vectors import I64

Array = np.ndarray[Any, np.dtype[Any]]


def views_in_order(flat: Array, shapes: Iterable[tuple[int, ...]]) -> list[Array]:
    """Consecutive views of a flat array with these shapes; for Python code."""
    views, first = [], 0
    for shape in shapes:
        last = first + math.prod(shape)
        views.append(flat[first:last].reshape(shape))
        first = last
    return views


@intrinsic_or_python(lambda table: sum(math.prod(shape) for shape in table))
def table_size(typingctx, table):
    """The number of elements of all arrays of a table."""

    def codegen(context, builder, signature, args):
        sizes = [functools.reduce(builder.mul, shape) for shape in _shapes(builder, table, args[0])]
        return functools.reduce(builder.add, sizes)

    return types.intp(table), codegen


@intrinsic_or_python(lambda flat, table: type(table)(*views_in_order(flat, table)))
def split(typingctx, flat, table):
    """The arrays of a table, which share the memory of `flat`; flat has at least `table_size(table)` elements."""
    kinds = [types.Array(flat.dtype, len(shape), "C") for shape in table.types]
    result = types.BaseTuple.from_types(kinds, table.instance_class)  # type: ignore[attr-defined]

    def codegen(context, builder, signature, args):
        data = context.make_array(flat)(context, builder, value=args[0]).data
        itemsize, first, views = I64(flat.dtype.bitwidth // 8), I64(0), []
        for kind, shape in zip(kinds, _shapes(builder, table, args[1]), strict=True):
            strides = [itemsize]
            for length in shape[:0:-1]:
                strides.insert(0, builder.mul(strides[0], length))
            view = context.make_array(kind)(context, builder)
            populate_array(view, builder.gep(data, [first]), shape, strides, itemsize, meminfo=None)
            views.append(view._getvalue())
            first = builder.add(first, functools.reduce(builder.mul, shape))
        return context.make_tuple(builder, result, views)

    return result(flat, table), codegen


def _shapes(builder, table, value):
    """The shapes of a table, each a list of LLVM integers."""
    fields = enumerate(table.types)
    return [cgutils.unpack_tuple(builder, builder.extract_value(value, i), len(shape)) for i, shape in fields]
