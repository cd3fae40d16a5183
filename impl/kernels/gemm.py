"""Matrix product C = A @ B or C += A @ B, register-tiled, bitwise reproducible under any tiling.

Every element of C is one accumulator, c = fma(a[i, k], b[k, j], c) with k ascending, which starts from 0 or from the
given C. So the result depends on neither tile size, vector width nor neighbouring rows. In a gradient of weights,
dW += x^T dy, k runs over tokens: accumulation over micro-batches has the bits of one large batch.

The scheme is that of Goto & van de Geijn 2008 (BLIS): a micro-kernel holds a tile of C, MR x NR, in vector registers
for all k; A and B are packed into panels of MR rows and NR columns, KC of k at a time, if they do not fit into the
cache. Here MR is TILE_ROWS, NR two vectors (TILE_COLUMNS in float32), KC BLOCK_DEPTH and NC BLOCK_PANELS * NR. Numba
does not keep the accumulators of a loop in registers, so `_emit_tile` writes LLVM IR.
"""

import itertools

from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.runtime.compile import intrinsic_or_python, kernel, llvm_inlined, strided_kernel
from impl.kernels.runtime.fma import fma
from impl.kernels.runtime.memory import allocate, free
from impl.kernels.runtime.vectors import I32, I64, VECTOR_BITS, address, lanes, load, prefetch, store
from impl.kernels.transpose import transpose

TILE_ROWS, TILE_COLUMNS = 8, 32
"""MR and NR: the largest tile of C that is computed in registers; NR is half as large in float64."""


def _tile(height, vectors, prefetch_next=False, bits=VECTOR_BITS):
    """An intrinsic that computes a tile of C, `height` rows by `vectors` vectors of `bits` bits, in registers.

    With `prefetch_next` it prefetches the tile below, as a C that fits into no cache is slow to read.
    """

    def tile_in_python(a, b, c, i, j, add):
        for row in range(i, i + height):
            for column in range(j, j + vectors * bits // 8 // c.itemsize):
                total = c[row, column] if add else c.dtype.type(0.0)
                for k in range(a.shape[1]):
                    total = fma(a[row, k], b[k, column], total)
                c[row, column] = total

    @intrinsic_or_python(tile_in_python)
    def tile(typingctx, a, b, c, i, j, add):
        count = bits // c.dtype.bitwidth

        def codegen(context, builder, signature, args):
            kinds = signature.args[:3]
            arrays = [
                context.make_array(t)(context, builder, value=x) for t, x in zip(kinds, args[:3], strict=True)
            ]
            if prefetch_next:
                for r, v in itertools.product(range(height), range(vectors)):
                    below = builder.add(args[3], I64(height + r)), builder.add(args[4], I64(v * count))
                    prefetch(builder, address(builder, arrays[2], *below))
            _emit_tile(builder, arrays, args[3:], count, height, vectors)
            return context.get_dummy_value()

        return types.void(a, b, c, i, j, add), codegen

    return tile


def _emit_tile(builder, arrays, tile_args, count, height, vectors):
    """Emit IR for a tile of c = a @ b or c += a @ b; vectors have `count` lanes, rows of b and c are contiguous."""
    a, b, c = arrays
    row, column, add = tile_args
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
    total = {t: builder.phi(vector) for t in tile}
    b_row = [load(builder, builder.add(where, builder.mul(k, b_step)), vector) for where in b_at]
    a_column = [broadcast(builder.add(where, builder.mul(k, a_step))) for where in a_at]
    next_total = {(r, v): builder.call(vector_fma, [a_column[r], b_row[v], total[r, v]]) for r, v in tile}
    next_k = builder.add(k, I64(1))
    for phi, first, following in [(k, I64(0), next_k), *((total[t], start[t], next_total[t]) for t in tile)]:
        phi.add_incoming(first, before)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, done)

    builder.position_at_end(done)
    final = {t: builder.phi(vector) for t in tile}
    for t in tile:
        final[t].add_incoming(start[t], before)
        final[t].add_incoming(next_total[t], loop)
    for t in tile:
        store(builder, final[t], c_at[t])


PACKING_THRESHOLD = 2**18
"""`gemm` packs A and B if one of the three matrices has at least this many elements."""
BLOCK_DEPTH, BLOCK_PANELS = 512, 4
"""KC, and NC / NR: a packed block of B has BLOCK_DEPTH rows and BLOCK_PANELS panels; it stays in the L2 cache."""
_wide_tile, _narrow_tile = _tile(TILE_ROWS, 2), _tile(TILE_ROWS, 1)
"""Sixteen accumulators keep both FMA units of a core busy; the narrow tile, with eight, is for remaining columns."""
_prefetching_tile = _tile(TILE_ROWS, 2, prefetch_next=True)
_half_vector_tile = _tile(TILE_ROWS, 1, bits=VECTOR_BITS // 2)
"""For `small_gemm` alone."""


@kernel
def _edge(a, b, c, first_row, last_row, first_column, last_column, add):
    """Scalar fallback for the rows and columns that do not fill a tile; k ascending, as in a tile."""
    for i in range(first_row, last_row):
        if not add:
            c[i, first_column:last_column] = 0.0
        for k in range(a.shape[1]):
            for j in range(first_column, last_column):
                c[i, j] = fma(a[i, k], b[k, j], c[i, j])


def _copy_row_in_python(x, i, j, out, row):
    out[row] = x[i, j : j + out.shape[1]]


def _copy_row(vectors):
    """An intrinsic: out[row] = x[i, j : j + n], rows contiguous; n is `vectors` vectors, TILE_ROWS if that is 0."""

    @intrinsic_or_python(_copy_row_in_python)
    def copy_row(typingctx, x, i, j, out, row):
        count = vectors * VECTOR_BITS // out.dtype.bitwidth or TILE_ROWS

        def codegen(context, builder, signature, args):
            source, target = (
                context.make_array(signature.args[n])(context, builder, value=args[n]) for n in (0, 3)
            )
            vector = ir.VectorType(source.data.type.pointee, count)
            value = load(builder, address(builder, source, args[1], args[2]), vector)
            store(builder, value, address(builder, target, args[4], I64(0)))
            return context.get_dummy_value()

        return types.void(x, i, j, out, row), codegen

    return copy_row


_copy_row_of_a, _copy_row_of_b = _copy_row(0), _copy_row(2)


@kernel
def _pack_b(b, first, steps, left, panels, depth, out):
    """Pack b[first : first + steps, left:] into `panels` panels of NR columns; panel i begins at out[i * depth]."""
    width = out.shape[1]
    if b.strides[1] == b.itemsize:
        for k in range(steps):
            for panel in range(panels):
                _copy_row_of_b(b, first + k, left + panel * width, out, panel * depth + k)
    else:
        for panel in range(panels):
            j = left + panel * width
            transpose(b.T[j : j + width, first : first + steps], out[panel * depth : panel * depth + steps])


@kernel
def _gemm_packed(a, b, c, rows, columns, add):
    """All wide tiles of C, computed from packed blocks of A and B; A is not packed if its rows are contiguous.

    Every accumulator continues from one block of k to the next, so its order is that of one loop over k.
    """
    depth, width, packs_a = min(BLOCK_DEPTH, a.shape[1]), 2 * lanes(c), a.strides[1] != a.itemsize
    packed_a = allocate(rows // TILE_ROWS * depth if packs_a else 0, TILE_ROWS, c)
    packed_b = allocate(BLOCK_PANELS * depth, width, c)
    for first in range(0, a.shape[1], depth):
        steps, add_block = min(depth, a.shape[1] - first), add or first > 0
        for tile in range(rows // TILE_ROWS if packs_a else 0):
            for k in range(steps):
                _copy_row_of_a(a.T, first + k, tile * TILE_ROWS, packed_a, tile * depth + k)
        for left in range(0, columns, BLOCK_PANELS * width):
            panels = min(BLOCK_PANELS, (columns - left) // width)
            _pack_b(b, first, steps, left, panels, depth, packed_b)
            for panel in range(panels):
                panel_b, j = packed_b[panel * depth : panel * depth + steps], left + panel * width
                for tile in range(rows // TILE_ROWS):
                    i = tile * TILE_ROWS
                    if packs_a:
                        panel_a = packed_a[tile * depth : tile * depth + steps].T
                        _prefetching_tile(panel_a, panel_b, c[i:, j:], 0, 0, add_block)
                    else:
                        rows_a = a[i : i + TILE_ROWS, first : first + steps]
                        _prefetching_tile(rows_a, panel_b, c[i:, j:], 0, 0, add_block)
    free(packed_a)
    free(packed_b)


@strided_kernel
def gemm(a, b, c, add):
    """C = A @ B, or C += A @ B if `add`; A [M, K] and B [K, N] of any strides, C [M, N] with contiguous rows.

    A and B are packed if a matrix is large or B is column-major, provided that each has a unit stride. The scalar
    fallback, which is slow, computes the remainder rows and columns of C, and all of C if B is not row-major and is not
    packed.
    """
    rows, columns = c.shape
    width, b_row_major = lanes(c), b.strides[1] == b.itemsize
    packable = a.shape[1] > 0 and c.itemsize in a.strides and (b_row_major or b.strides[0] == b.itemsize)
    large = max(a.size, b.size, c.size) >= PACKING_THRESHOLD
    tiled_rows = rows - rows % TILE_ROWS
    wide_columns = columns - columns % (2 * width) if b_row_major or packable else 0
    tiled_columns = columns - columns % width if b_row_major else wide_columns
    if packable and (large or not b_row_major):
        _gemm_packed(a, b, c, tiled_rows, wide_columns, add)
    else:
        for j in range(0, wide_columns, 2 * width):
            for i in range(0, tiled_rows, TILE_ROWS):
                _wide_tile(a, b, c, i, j, add)
    if wide_columns < tiled_columns:
        for i in range(0, tiled_rows, TILE_ROWS):
            _narrow_tile(a, b, c, i, wide_columns, add)
    if tiled_columns < columns:
        _edge(a, b, c, 0, tiled_rows, tiled_columns, columns, add)
    if tiled_rows < rows:
        _edge(a, b, c, tiled_rows, rows, 0, columns, add)


@llvm_inlined
def small_gemm(a, b, c, add):
    """As `gemm`, inlined, for products so small that the call would dominate; M is a multiple of TILE_ROWS."""
    rows, columns = c.shape
    half = lanes(c) // 2
    tiled_columns = columns - columns % lanes(c)
    for j in range(0, tiled_columns, lanes(c)):
        for i in range(0, rows, TILE_ROWS):
            _narrow_tile(a, b, c, i, j, add)
    if columns - tiled_columns >= half:
        for i in range(0, rows, TILE_ROWS):
            _half_vector_tile(a, b, c, i, tiled_columns, add)
        tiled_columns += half
    if tiled_columns < columns:
        _edge(a, b, c, 0, rows, tiled_columns, columns, add)
