"""Transpose of a matrix, a square of vector registers at a time.

n registers of n numbers are transposed by log2 n rounds; each interleaves register i with register i + n / 2 (the
perfect shuffle, Stone 1971).
"""

from llvmlite import ir
from numba.core import types

from impl.kernels.runtime.compile import intrinsic_or, kernel
from impl.kernels.runtime.vectors import BITS, I32, I64, address, lanes, load, store


def _square_in_python(x, out, i, j):
    side = BITS // 8 // x.itemsize
    for row in range(i, i + side):
        for column in range(j, j + side):
            out[column, row] = x[row, column]


@intrinsic_or(_square_in_python)
def _square(typingctx, x, out, i, j):
    """out[j : j + n, i : i + n] = the transpose of x[i : i + n, j : j + n]; rows of both contiguous."""
    count = BITS // x.dtype.bitwidth

    def codegen(context, builder, signature, args):
        source, target = (
            context.make_array(kind)(context, builder, value=value)
            for kind, value in zip(signature.args[:2], args[:2], strict=True)
        )
        vector = ir.VectorType(source.data.type.pointee, count)

        def interleaved(a, b, start):
            order = [start + k // 2 + k % 2 * count for k in range(count)]
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, count), order))

        places = [I64(k) for k in range(count)]
        from_rows = [address(builder, source, builder.add(args[2], k), args[3]) for k in places]
        rows = [load(builder, where, vector) for where in from_rows]
        half = count // 2
        for _ in range(count.bit_length() - 1):
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [interleaved(a, b, start) for a, b in pairs for start in (0, half)]
        for k, row in zip(places, rows, strict=True):
            store(builder, row, address(builder, target, builder.add(args[3], k), args[2]))
        return context.get_dummy_value()

    return types.void(x, out, i, j), codegen


@kernel
def transpose(x, out):
    """out [D, N] = x [N, D] transposed; rows of both contiguous."""
    rows, columns = x.shape
    side = lanes(x)
    whole_rows, whole_columns = rows - rows % side, columns - columns % side
    for i in range(0, whole_rows, side):
        for j in range(0, whole_columns, side):
            _square(x, out, i, j)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            out[j, i] = x[i, j]
