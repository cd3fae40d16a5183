"""Matrix product C = A @ B or C += A @ B, register-tiled, with bits that do not depend on how it is tiled.

Every element of C is one chain c = fma(a[i, k], b[k, j], c) with k ascending, starting from 0 or from the C it
was given. So its bits depend neither on tile size, vector width nor neighbouring rows, and a sum over tokens can be
continued by the next micro-batch. The trick for speed: a tile of C stays in vector registers for the whole chain
(Goto & van de Geijn 2008), which numba cannot be talked into, hence the hand-written LLVM IR of `_emit_tile`.
"""

import itertools

from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.runtime.compile import inlined, intrinsic_or, kernel, strided
from impl.kernels.runtime.fma import fma
from impl.kernels.runtime.memory import free, scratch
from impl.kernels.runtime.vectors import BITS, I32, I64, address, lanes, load, prefetch, store
from impl.kernels.transpose import transpose

ROWS = 8


def _tile(height, vectors, ahead=False, bits=BITS):
    """The kernel for a tile of C: so many rows by so many vectors, each element's chain in a register to its end.

    A vector has so many `bits`. With `ahead` the tile below is brought near meanwhile: a C that no cache holds is a
    long way off.
    """

    def twin(a, b, c, i, j, add):
        for row in range(i, i + height):
            for column in range(j, j + vectors * bits // 8 // c.itemsize):
                chain = c[row, column] if add else c.dtype.type(0.0)
                for k in range(a.shape[1]):
                    chain = fma(a[row, k], b[k, column], chain)
                c[row, column] = chain

    @intrinsic_or(twin)
    def tile(typingctx, a, b, c, i, j, add):
        count = bits // c.dtype.bitwidth

        def codegen(context, builder, signature, args):
            kinds = signature.args[:3]
            arrays = [
                context.make_array(t)(context, builder, value=x) for t, x in zip(kinds, args[:3], strict=True)
            ]
            if ahead:
                for r, v in itertools.product(range(height), range(vectors)):
                    below = builder.add(args[3], I64(height + r)), builder.add(args[4], I64(v * count))
                    prefetch(builder, address(builder, arrays[2], *below))
            _emit_tile(builder, arrays, args[3:], count, height, vectors)
            return context.get_dummy_value()

        return types.void(a, b, c, i, j, add), codegen

    return tile


def _emit_tile(builder, arrays, where, count, height, vectors):
    """c[row : row + height, column : column + vectors * count] (+)= a @ b there; rows of b and c are contiguous."""
    a, b, c = arrays
    row, column, add = where
    depth = cgutils.unpack_tuple(builder, a.shape, 2)[1]
    element = a.data.type.pointee
    vector = ir.VectorType(element, count)
    name = f"llvm.fma.v{count}f{32 if element == ir.FloatType() else 64}"
    vector_fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)

    def broadcast(where):
        scalar = builder.load(builder.inttoptr(where, element.as_pointer()))
        undefined = ir.Constant(vector, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(I32, count), [0] * count)
        return builder.shuffle_vector(builder.insert_element(undefined, scalar, I32(0)), undefined, zeros)

    rows = [builder.add(row, I64(r)) for r in range(height)]
    columns = [builder.add(column, I64(v * count)) for v in range(vectors)]
    tile = [(r, v) for r in range(height) for v in range(vectors)]
    c_at = {(r, v): address(builder, c, rows[r], columns[v]) for r, v in tile}
    a_at = [address(builder, a, r, I64(0)) for r in rows]
    b_at = [address(builder, b, I64(0), v) for v in columns]
    a_step, b_step = (
        cgutils.unpack_tuple(builder, a.strides, 2)[1],
        cgutils.unpack_tuple(builder, b.strides, 2)[0],
    )
    zero = ir.Constant(vector, [ir.Constant(element, 0.0)] * count)
    start = {t: builder.select(add, load(builder, c_at[t], vector), zero) for t in tile}

    before, loop, done = builder.block, builder.append_basic_block("k"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", depth, I64(0)), loop, done)
    builder.position_at_end(loop)
    k = builder.phi(I64)
    chain = {t: builder.phi(vector) for t in tile}
    b_row = [load(builder, builder.add(where, builder.mul(k, b_step)), vector) for where in b_at]
    a_column = [broadcast(builder.add(where, builder.mul(k, a_step))) for where in a_at]
    longer = {(r, v): builder.call(vector_fma, [a_column[r], b_row[v], chain[r, v]]) for r, v in tile}
    next_k = builder.add(k, I64(1))
    for phi, first, following in [(k, I64(0), next_k)] + [(chain[t], start[t], longer[t]) for t in tile]:
        phi.add_incoming(first, before)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, done)

    builder.position_at_end(done)
    ends = {t: builder.phi(vector) for t in tile}
    for t in tile:
        ends[t].add_incoming(start[t], before)
        ends[t].add_incoming(longer[t], loop)
    for t in tile:
        store(builder, ends[t], c_at[t])


LARGE = 2**18
"""Numbers in a matrix from which on copies pay."""
DEPTH, PANELS = 512, 4
"""A block's steps of k and its panels of B, all of which stay in the second cache."""
_wide_tile, _small_tile = _tile(ROWS, 2), _tile(ROWS, 1)
"""Sixteen chains keep both units for fused multiply-adds busy; eight are for what is left over."""
_far_tile = _tile(ROWS, 2, ahead=True)
_half_tile = _tile(ROWS, 1, bits=BITS // 2)
"""For `small_gemm` alone: half a vector."""


@kernel
def _edge(a, b, c, first_row, last_row, first_column, last_column, add):
    """The same chains for the rows and columns that do not fill a tile."""
    for i in range(first_row, last_row):
        if not add:
            c[i, first_column:last_column] = 0.0
        for k in range(a.shape[1]):
            for j in range(first_column, last_column):
                c[i, j] = fma(a[i, k], b[k, j], c[i, j])


def _line_in_python(x, i, j, out, row):
    out[row] = x[i, j : j + out.shape[1]]


def _line(width):
    """out[row] = x[i, j : j + n], contiguous in both; n is so many vectors of 64 bytes, or ROWS if `width` is 0."""

    @intrinsic_or(_line_in_python)
    def line(typingctx, x, i, j, out, row):
        count = width * BITS // out.dtype.bitwidth or ROWS

        def codegen(context, builder, signature, args):
            source, target = (
                context.make_array(signature.args[n])(context, builder, value=args[n]) for n in (0, 3)
            )
            vector = ir.VectorType(source.data.type.pointee, count)
            value = load(builder, address(builder, source, args[1], args[2]), vector)
            store(builder, value, address(builder, target, args[4], I64(0)))
            return context.get_dummy_value()

        return types.void(x, i, j, out, row), codegen

    return line


_line_of_a, _line_of_b = _line(0), _line(2)


@kernel
def _copy_panels(b, first, steps, left, panels, depth, out):
    """Panel after panel of b[first : first + steps, left:], `depth` rows of `out` for each."""
    width = out.shape[1]
    if b.strides[1] == b.itemsize:
        for k in range(steps):
            for panel in range(panels):
                _line_of_b(b, first + k, left + panel * width, out, panel * depth + k)
    else:
        for panel in range(panels):
            j = left + panel * width
            transpose(b.T[j : j + width, first : first + steps], out[panel * depth : panel * depth + steps])


@kernel
def _blocked(a, b, c, rows, columns, add):
    """All wide tiles of matrices that do not fit into the cache, from copies without gaps of what is used often.

    A chain is continued from one block of k to the next, and so keeps its order.
    """
    depth, width, copied = min(DEPTH, a.shape[1]), 2 * lanes(c), a.strides[1] != a.itemsize
    of_a, of_b = scratch(rows // ROWS * depth if copied else 0, ROWS, c), scratch(PANELS * depth, width, c)
    for first in range(0, a.shape[1], depth):
        steps, more = min(depth, a.shape[1] - first), add or first > 0
        for tile in range(rows // ROWS if copied else 0):
            for k in range(steps):
                _line_of_a(a.T, first + k, tile * ROWS, of_a, tile * depth + k)
        for left in range(0, columns, PANELS * width):
            panels = min(PANELS, (columns - left) // width)
            _copy_panels(b, first, steps, left, panels, depth, of_b)
            for panel in range(panels):
                panel_of_b, j = of_b[panel * depth : panel * depth + steps], left + panel * width
                for tile in range(rows // ROWS):
                    i = tile * ROWS
                    if copied:
                        copy_of_a = of_a[tile * depth : tile * depth + steps].T
                        _far_tile(copy_of_a, panel_of_b, c[i:, j:], 0, 0, more)
                    else:
                        part_of_a = a[i : i + ROWS, first : first + steps]
                        _far_tile(part_of_a, panel_of_b, c[i:, j:], 0, 0, more)
    free(of_a)
    free(of_b)


@strided
def gemm(a, b, c, add):
    """C = A @ B, or C += A @ B if `add`; A [M, K] and B [K, N] of any strides, C [M, N] with contiguous rows.

    A B with contiguous columns is copied, as long as A has contiguous rows or columns. What is in no tile is slow: the
    last columns of such a B, and all of any other.
    """
    rows, columns = c.shape
    width, by_rows = lanes(c), b.strides[1] == b.itemsize
    copied = a.shape[1] > 0 and c.itemsize in a.strides and (by_rows or b.strides[0] == b.itemsize)
    large = max(a.size, b.size, c.size) >= LARGE
    tiled_rows = rows - rows % ROWS
    wide_columns = columns - columns % (2 * width) if by_rows or copied else 0
    tiled_columns = columns - columns % width if by_rows else wide_columns
    if copied and (large or not by_rows):
        _blocked(a, b, c, tiled_rows, wide_columns, add)
    else:
        for j in range(0, wide_columns, 2 * width):
            for i in range(0, tiled_rows, ROWS):
                _wide_tile(a, b, c, i, j, add)
    if wide_columns < tiled_columns:
        for i in range(0, tiled_rows, ROWS):
            _small_tile(a, b, c, i, wide_columns, add)
    if tiled_columns < columns:
        _edge(a, b, c, 0, tiled_rows, tiled_columns, columns, add)
    if tiled_rows < rows:
        _edge(a, b, c, tiled_rows, rows, 0, columns, add)


@inlined
def small_gemm(a, b, c, add):
    """The same, the rows of C whole tiles, for products that take no longer than a call of `gemm`."""
    rows, columns = c.shape
    half = lanes(c) // 2
    tiled_columns = columns - columns % lanes(c)
    for j in range(0, tiled_columns, lanes(c)):
        for i in range(0, rows, ROWS):
            _small_tile(a, b, c, i, j, add)
    if columns - tiled_columns >= half:
        for i in range(0, rows, ROWS):
            _half_tile(a, b, c, i, tiled_columns, add)
        tiled_columns += half
    if tiled_columns < columns:
        _edge(a, b, c, 0, rows, tiled_columns, columns, add)
