"""Transpose of a matrix, a square of n vector registers of n elements at a time.

log2 n rounds transpose such a square; each interleaves register i with register i + n / 2 (the perfect shuffle, Stone
1971).
"""

from llvmlite import ir
from numba.core import types

from impl.kernels.runtime.compile import intrinsic_or_python, kernel
from impl.kernels.runtime.vectors import I32, I64, VECTOR_BITS, address, lanes, load, store


def _square_in_python(x, out, i, j):
    side = VECTOR_BITS // 8 // x.itemsize
    for row in range(i, i + side):
        for column in range(j, j + side):
            out[column, row] = x[row, column]


@intrinsic_or_python(_square_in_python)
def _square(typingctx, x, out, i, j):
    """out[j : j + n, i : i + n] = the transpose of x[i : i + n, j : j + n]; the rows of x and out are contiguous."""
    count = VECTOR_BITS // x.dtype.bitwidth

    def codegen(context, builder, signature, args):
        source, target = (
            context.make_array(kind)(context, builder, value=value)
            for kind, value in zip(signature.args[:2], args[:2], strict=True)
        )
        vector = ir.VectorType(source.data.type.pointee, count)

        def interleave(a, b, start):
            order = [start + k // 2 + k % 2 * count for k in range(count)]
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, count), order))

        indices = [I64(k) for k in range(count)]
        from_rows = [address(builder, source, builder.add(args[2], k), args[3]) for k in indices]
        rows = [load(builder, where, vector) for where in from_rows]
        half = count // 2
        for _ in range(count.bit_length() - 1):
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [interleave(a, b, start) for a, b in pairs for start in (0, half)]
        for k, row in zip(indices, rows, strict=True):
            store(builder, row, address(builder, target, builder.add(args[3], k), args[2]))
        return context.get_dummy_value()

    return types.void(x, out, i, j), codegen


@kernel
def transpose(x, out):
    """out [D, N] = the transpose of x [N, D]; the rows of x and out are contiguous."""
    rows, columns = x.shape
    side = lanes(x)
    full_rows, full_columns = rows - rows % side, columns - columns % side
    for i in range(0, full_rows, side):
        for j in range(0, full_columns, side):
            _square(x, out, i, j)
    for i in range(rows):
        for j in range(full_columns if i < full_rows else 0, columns):
            out[j, i] = x[i, j]
