"""Causal softmax attention with a key mask (Vaswani et al. 2017): softmax(q k^T / sqrt(K)) v for each head.

Position i attends to the keys j <= i that are not padding; a position without any gets zeros. Queries are processed a
tile at a time, each tile with the keys up to its last query only. Scores are stored with a row for each key and a
column for each query and head. So the sums of a softmax run over rows, j ascending, and LLVM vectorises over columns
without changing the order of a sum. Sequences are padded with zeros to whole tiles of `gemm`: adding a product with
zero changes no bit of an accumulator.
"""

import numpy as np

from impl.kernels.elementary import exp
from impl.kernels.elementwise import copy
from impl.kernels.gemm import TILE_ROWS, small_gemm
from impl.kernels.packing import round_up_to_tile
from impl.kernels.runtime.compile import force_inline, inline_kernel, kernel
from impl.kernels.runtime.memory import allocate, free
from impl.kernels.transpose import transpose

QUERY_TILE = 16
"""Queries in a tile. The last tile of a sequence has TILE_ROWS if that is enough. Both numbers are powers of two."""


@kernel
def query_tiles(length):
    """How many tiles of queries a sequence has."""
    return -(-length // QUERY_TILE)


@kernel
def tile_end(t, length):
    """The position after the last query of tile t in a sequence; as many keys take part in the tile."""
    return min((t + 1) * QUERY_TILE, round_up_to_tile(length))


@inline_kernel
def leading_matrix(buffer, rows, columns):
    """The first rows * columns numbers of a buffer as a matrix."""
    return buffer.reshape(-1)[: rows * columns].reshape(rows, columns)


@kernel
def attention(q, k, v, starts, key_mask, scale, out, weights):
    """out = softmax(scale * q k^T) v; weights receives the softmax for the backward pass.

    q, k, v, out [N, H*K]; key_mask bool [N]. Sequence b is the rows starts[b] to starts[b + 1], at most T; rows after
    the last sequence become zeros. weights [B, query_tiles(T), P, H*QUERY_TILE], P = query_tiles(T) * QUERY_TILE: the
    leading matrix [keys, H*n] of weights[b, t] is a tile of n queries, with the weight of key j for query i of head h
    at [j, h * n + i].
    """
    heads, longest, width = weights.shape[3] // QUERY_TILE, weights.shape[2], q.shape[1]
    size = width // heads
    queries, statistics = allocate(width, QUERY_TILE, q), allocate(2, heads * QUERY_TILE, q)
    padded = allocate(4 * longest, width, q).reshape(4, longest, width)
    out[starts[-1] :] = 0.0
    for b in range(starts.size - 1):
        rows, length = slice(starts[b], starts[b + 1]), starts[b + 1] - starts[b]
        query, key = _pad(q[rows], padded[0]), _pad(k[rows], padded[1])
        value = _pad(v[rows], padded[2])
        fills_tiles = length % TILE_ROWS == 0
        result = out[rows] if fills_tiles else padded[3]
        for t in range(query_tiles(length)):
            keys = tile_end(t, length)
            count, tile = keys - t * QUERY_TILE, slice(t * QUERY_TILE, keys)
            columns = heads * count
            scores = leading_matrix(weights[b, t], keys, columns)
            transpose(query[t * QUERY_TILE : (t + 1) * QUERY_TILE], queries)
            for h in range(heads):
                head, of_head = slice(h * size, (h + 1) * size), slice(h * count, (h + 1) * count)
                small_gemm(key[:keys, head], queries[head, :count], scores[:, of_head], False)
            _softmax(scores, scale, key_mask[rows], count, statistics[0, :columns], statistics[1, :columns])
            for h in range(heads):
                head, of_head = slice(h * size, (h + 1) * size), slice(h * count, (h + 1) * count)
                small_gemm(scores[:, of_head].T, value[:keys, head], result[tile, head], False)
        if not fills_tiles:
            copy(result[:length], out[rows])
    free(queries)
    free(statistics)
    free(padded)


@kernel
def _pad(x, buffer):
    """x [T, D] if it fills whole tiles of queries; else a copy in `buffer`, with zeros to the end of the last tile."""
    length = x.shape[0]
    if length % QUERY_TILE == 0:
        return x
    copy(x, buffer[:length])
    buffer[length : query_tiles(length) * QUERY_TILE] = 0.0
    return buffer


@kernel
def _softmax(scores, scale, key_mask, count, largest, norm):
    """In place: scores [S, H*count] become the softmax of scale * scores over the visible keys j, 0 for the others.

    The S rows are keys; the columns are the last `count` of the S queries, for each head. largest, norm [H*count] are
    buffers.
    """
    length, width = key_mask.size, scores.shape[1]
    minus_infinity = scores.dtype.type(-np.inf)
    zero, one = scores.dtype.type(0.0), scores.dtype.type(1.0)
    first_query = scores.shape[0] - count
    largest[:] = minus_infinity
    norm[:] = zero
    for j in range(scores.shape[0]):
        unmasked = j < length and key_mask[min(j, length - 1)]
        for i in range(width):  # i & (count - 1) is the query's index in the tile
            visible = unmasked and j - first_query <= i & (count - 1)
            score = scale * scores[j, i] if visible else minus_infinity
            scores[j, i] = score
            largest[i] = max(largest[i], score)
    for i in range(width):
        largest[i] = largest[i] if largest[i] > minus_infinity else zero
    for j in range(scores.shape[0]):
        for i in range(width):
            visible = scores[j, i] != minus_infinity  # a NaN is visible
            weight = exp(scores[j, i] - largest[i] if visible else zero)  # exp(-inf) is 0 too, but slow
            weight = weight if visible else zero
            scores[j, i] = weight
            norm[i] += weight
    for i in range(width):
        norm[i] = one if norm[i] == zero else norm[i]  # no visible key: all weights stay 0
    for j in range(scores.shape[0]):
        for i in range(width):
            scores[j, i] = scores[j, i] / norm[i]


@kernel
def attention_backward(dout, q, k, v, starts, weights, scale, dq, dk, dv):
    """Gradients of `attention`; all [N, H*K], weights as `attention` wrote them. dq, dk, dv are overwritten.

    With w the weights and dw = dout v^T: ds = scale * w * (dw - sum_j w dw); dq = ds k; dk = ds^T q; dv = w^T dout.
    """
    heads, longest, width = weights.shape[3] // QUERY_TILE, weights.shape[2], q.shape[1]
    size = width // heads
    upstream, gradient = allocate(width, QUERY_TILE, q), allocate(longest, heads * QUERY_TILE, q)
    mean = allocate(1, heads * QUERY_TILE, q)
    padded = allocate(7 * longest, width, q).reshape(7, longest, width)
    for d in (dq, dk, dv):
        d[starts[-1] :] = 0.0
    for b in range(starts.size - 1):
        rows, length = slice(starts[b], starts[b + 1]), starts[b + 1] - starts[b]
        query, key = _pad(q[rows], padded[0]), _pad(k[rows], padded[1])
        value, dresult = _pad(v[rows], padded[2]), _pad(dout[rows], padded[3])
        fills_tiles = length % TILE_ROWS == 0
        dquery, dkey = dq[rows] if fills_tiles else padded[4], dk[rows] if fills_tiles else padded[5]
        dvalue = dv[rows] if fills_tiles else padded[6]
        dkey[: round_up_to_tile(length)] = 0.0
        dvalue[: round_up_to_tile(length)] = 0.0
        for t in range(query_tiles(length)):
            keys = tile_end(t, length)
            count, tile = keys - t * QUERY_TILE, slice(t * QUERY_TILE, keys)
            columns = heads * count
            w, dscores = leading_matrix(weights[b, t], keys, columns), leading_matrix(gradient, keys, columns)
            transpose(dresult[t * QUERY_TILE : (t + 1) * QUERY_TILE], upstream)
            for h in range(heads):
                head, of_head = slice(h * size, (h + 1) * size), slice(h * count, (h + 1) * count)
                small_gemm(value[:keys, head], upstream[head, :count], dscores[:, of_head], False)
            _softmax_backward(w, scale, dscores, mean[0, :columns])
            of_tile = query[tile], dresult[tile], dquery[tile]
            of_keys = key[:keys], dkey[:keys], dvalue[:keys]
            if count == QUERY_TILE:  # LLVM unrolls a loop whose length is a constant
                _input_gradients(QUERY_TILE, heads, w, dscores, of_tile, of_keys)
            else:
                _input_gradients(TILE_ROWS, heads, w, dscores, of_tile, of_keys)
        if not fills_tiles:
            copy(dquery[:length], dq[rows])
            copy(dkey[:length], dk[rows])
            copy(dvalue[:length], dv[rows])
    free(upstream)
    free(gradient)
    free(mean)
    free(padded)


@force_inline
def _input_gradients(count, heads, weights, dscores, of_tile, of_keys):
    """For a tile of `count` queries: dq = ds k; dk += ds^T q; dv += w^T dout."""
    query, dresult, dquery = of_tile
    key, dkey, dvalue = of_keys
    size = key.shape[1] // heads
    for h in range(heads):
        head, of_head = slice(h * size, (h + 1) * size), slice(h * count, (h + 1) * count)
        small_gemm(dscores[:, of_head].T, key[:, head], dquery[:, head], False)
        small_gemm(dscores[:, of_head], query[:, head], dkey[:, head], True)
        small_gemm(weights[:, of_head], dresult[:, head], dvalue[:, head], True)


@kernel
def _softmax_backward(weights, scale, gradient, mean):
    """In place: the gradient [S, H*count] of the weights becomes that of the unscaled scores; mean is a buffer."""
    mean[:] = 0.0
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            mean[i] += weights[j, i] * gradient[j, i]
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            gradient[j, i] = scale * (weights[j, i] * (gradient[j, i] - mean[i]))
