"""Matrix product C = A @ B or C += A @ B, register-tiled, with bits that do not depend on how it is tiled.

Every element of C is one chain c = fma(a[i, k], b[k, j], c) with k ascending, starting from 0 or from the C it
was given. So its bits depend neither on tile size, vector width nor neighbouring rows, and a sum over tokens can be
continued by the next micro-batch. The trick for speed: a tile of C stays in vector registers for the whole chain
(Goto & van de Geijn 2008), which numba cannot be talked into, hence the hand-written LLVM IR of `_emit_tile`.
"""

from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.compile import intrinsic_or, kernel
from impl.kernels.fma import fma

ROWS = 8
_VECTOR_BITS = 512
_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic_or(lambda c: _VECTOR_BITS // 8 // c.itemsize)
def _lanes(typingctx, c):
    """Elements of c in a vector: 16 for float32, 8 for float64."""
    lanes = _VECTOR_BITS // c.dtype.bitwidth

    def codegen(context, builder, signature, args):
        return _I64(lanes)

    return types.intp(c), codegen


def _tile(vectors):
    """The kernel for a tile of C: 8 rows by so many vectors, each element's chain in a register to its end."""

    def twin(a, b, c, i, j, add):
        for row in range(i, i + ROWS):
            for column in range(j, j + vectors * _VECTOR_BITS // 8 // c.itemsize):
                chain = c[row, column] if add else c.dtype.type(0.0)
                for k in range(a.shape[1]):
                    chain = fma(a[row, k], b[k, column], chain)
                c[row, column] = chain

    @intrinsic_or(twin)
    def tile(typingctx, a, b, c, i, j, add):
        lanes = _VECTOR_BITS // c.dtype.bitwidth

        def codegen(context, builder, signature, args):
            kinds = signature.args[:3]
            arrays = [
                context.make_array(t)(context, builder, value=x) for t, x in zip(kinds, args[:3], strict=True)
            ]
            _emit_tile(builder, arrays, args[3], args[4], args[5], lanes, vectors)
            return context.get_dummy_value()

        return types.void(a, b, c, i, j, add), codegen

    return tile


def _emit_tile(builder, arrays, row, column, add, lanes, vectors):
    """c[row : row + 8, column : column + vectors * lanes] (+)= a @ b there; columns of b and c are contiguous."""
    a, b, c = arrays
    depth = cgutils.unpack_tuple(builder, a.shape, 2)[1]
    element = a.data.type.pointee
    vector = ir.VectorType(element, lanes)
    alignment = _VECTOR_BITS // lanes // 8
    name = f"llvm.fma.v{lanes}f{_VECTOR_BITS // lanes}"
    vector_fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)

    def address(array, x, y):
        """Of array[x, y], from its strides in bytes."""
        strides = cgutils.unpack_tuple(builder, array.strides, 2)
        offset = builder.add(builder.mul(x, strides[0]), builder.mul(y, strides[1]))
        return builder.add(builder.ptrtoint(array.data, _I64), offset)

    def load(where):
        return builder.load(builder.inttoptr(where, vector.as_pointer()), align=alignment)

    def broadcast(where):
        scalar = builder.load(builder.inttoptr(where, element.as_pointer()))
        undefined = ir.Constant(vector, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
        return builder.shuffle_vector(builder.insert_element(undefined, scalar, _I32(0)), undefined, zeros)

    rows = [builder.add(row, _I64(r)) for r in range(ROWS)]
    columns = [builder.add(column, _I64(v * lanes)) for v in range(vectors)]
    tile = [(r, v) for r in range(ROWS) for v in range(vectors)]
    c_at = {(r, v): address(c, rows[r], columns[v]) for r, v in tile}
    a_at, b_at = [address(a, r, _I64(0)) for r in rows], [address(b, _I64(0), v) for v in columns]
    a_step, b_step = (
        cgutils.unpack_tuple(builder, a.strides, 2)[1],
        cgutils.unpack_tuple(builder, b.strides, 2)[0],
    )
    zero = ir.Constant(vector, [ir.Constant(element, 0.0)] * lanes)
    start = {t: builder.select(add, load(c_at[t]), zero) for t in tile}

    before, loop, done = builder.block, builder.append_basic_block("k"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", depth, _I64(0)), loop, done)
    builder.position_at_end(loop)
    k = builder.phi(_I64)
    chain = {t: builder.phi(vector) for t in tile}
    b_row = [load(builder.add(where, builder.mul(k, b_step))) for where in b_at]
    a_column = [broadcast(builder.add(where, builder.mul(k, a_step))) for where in a_at]
    longer = {(r, v): builder.call(vector_fma, [a_column[r], b_row[v], chain[r, v]]) for r, v in tile}
    next_k = builder.add(k, _I64(1))
    for phi, first, following in [(k, _I64(0), next_k)] + [(chain[t], start[t], longer[t]) for t in tile]:
        phi.add_incoming(first, before)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, done)

    builder.position_at_end(done)
    ends = {t: builder.phi(vector) for t in tile}
    for t in tile:
        ends[t].add_incoming(start[t], before)
        ends[t].add_incoming(longer[t], loop)
    for t in tile:
        builder.store(ends[t], builder.inttoptr(c_at[t], vector.as_pointer()), align=alignment)


_narrow_tile, _wide_tile = _tile(1), _tile(2)


@kernel
def gemm(a, b, c, add):
    """C = A @ B, or C += A @ B if `add`; A [M, K] of any strides, B [K, N] and C [M, N] with contiguous rows."""
    rows, columns = c.shape
    lanes = _lanes(c)
    tiled_rows, tiled_columns = rows - rows % ROWS, columns - columns % lanes
    wide_columns = columns - columns % (2 * lanes)
    for j in range(0, wide_columns, 2 * lanes):
        for i in range(0, tiled_rows, ROWS):
            _wide_tile(a, b, c, i, j, add)
    if wide_columns < tiled_columns:
        for i in range(0, tiled_rows, ROWS):
            _narrow_tile(a, b, c, i, wide_columns, add)
    _edge(a, b, c, 0, tiled_rows, tiled_columns, columns, add)
    _edge(a, b, c, tiled_rows, rows, 0, columns, add)


@kernel
def _edge(a, b, c, first_row, last_row, first_column, last_column, add):
    """The same chains for the rows and columns that do not fill a tile."""
    for i in range(first_row, last_row):
        if not add:
            c[i, first_column:last_column] = 0.0
        for k in range(a.shape[1]):
            for j in range(first_column, last_column):
                c[i, j] = fma(a[i, k], b[k, j], c[i, j])
