"""Causal softmax attention with a key mask (Vaswani et al. 2017): softmax(q k^T / sqrt(K)) v, head by head.

Position i sees the keys j <= i that are not padding; a position that sees none gets zeros. Queries are taken a tile at
a time, and a tile meets only the keys up to its last query. Scores are kept with the keys as rows, the queries of all
heads side by side: what a softmax adds up then lies in different rows, j ascending, and LLVM works on many queries at
once without changing the order of any sum. Positions are padded with zeros to whole tiles of `gemm`: a zero in a chain
of `small_gemm` changes no number.
"""

import numpy as np

from impl.kernels.elementary import exp
from impl.kernels.elementwise import copy
from impl.kernels.gemm import ROWS, small_gemm
from impl.kernels.rows import whole_tiles
from impl.kernels.runtime.compile import inlined, kernel, part
from impl.kernels.runtime.memory import free, scratch
from impl.kernels.transpose import transpose

TILE = 16
"""Queries of a tile; the last one of a sequence has ROWS if they are enough. Both are powers of two."""


@kernel
def tiles(length):
    """How many tiles of queries a sequence has."""
    return -(-length // TILE)


@kernel
def tile_end(t, length):
    """The first position behind tile t of a sequence, which is how many keys it meets."""
    return min((t + 1) * TILE, whole_tiles(length))


@part
def front(room, rows, columns):
    """The first numbers of a room as a matrix."""
    return room.reshape(-1)[: rows * columns].reshape(rows, columns)


@kernel
def attention(q, k, v, starts, key_mask, scale, out, weights):
    """q, k, v, out [N, H*K]; key_mask bool [N]; weights [B, tiles(T), P, H*TILE] receives the softmax.

    Sequence b is the rows starts[b] to starts[b + 1], at most T of them; rows behind the last become zeros. P is
    tiles(T) * TILE; at the front of weights[b, t] stands [keys, H*count] for a tile of so many queries: at
    [j, h * count + i] what its query i of head h takes of key j.
    """
    heads, longest, width = weights.shape[3] // TILE, weights.shape[2], q.shape[1]
    size = width // heads
    queries, statistics = scratch(width, TILE, q), scratch(2, heads * TILE, q)
    room = scratch(4 * longest, width, q).reshape(4, longest, width)
    out[starts[-1] :] = 0.0
    for b in range(starts.size - 1):
        rows, length = slice(starts[b], starts[b + 1]), starts[b + 1] - starts[b]
        query, key = _padded(q[rows], room[0]), _padded(k[rows], room[1])
        value = _padded(v[rows], room[2])
        whole = length % ROWS == 0
        mixed = out[rows] if whole else room[3]
        for t in range(tiles(length)):
            seen = tile_end(t, length)
            count, some = seen - t * TILE, slice(t * TILE, seen)
            lines = heads * count
            scores = front(weights[b, t], seen, lines)
            transpose(query[t * TILE : (t + 1) * TILE], queries)
            for h in range(heads):
                head, columns = slice(h * size, (h + 1) * size), slice(h * count, (h + 1) * count)
                small_gemm(key[:seen, head], queries[head, :count], scores[:, columns], False)
            _softmax(scores, scale, key_mask[rows], count, statistics[0, :lines], statistics[1, :lines])
            for h in range(heads):
                head, columns = slice(h * size, (h + 1) * size), slice(h * count, (h + 1) * count)
                small_gemm(scores[:, columns].T, value[:seen, head], mixed[some, head], False)
        if not whole:
            copy(mixed[:length], out[rows])
    free(queries)
    free(statistics)
    free(room)


@kernel
def _padded(x, room):
    """x [T, D] if its rows are whole tiles; else a copy in `room`, with zeros to the end of the tile."""
    length = x.shape[0]
    if length % TILE == 0:
        return x
    copy(x, room[:length])
    room[length : tiles(length) * TILE] = 0.0
    return room


@kernel
def _softmax(scores, scale, visible, count, largest, norm):
    """In place: softmax over the keys j of scale * scores [S, H*count], whose last query is S - 1; 0 for the unseen."""
    length, width = visible.size, scores.shape[1]
    nothing = scores.dtype.type(-np.inf)
    zero, one = scores.dtype.type(0.0), scores.dtype.type(1.0)
    behind = scores.shape[0] - count
    largest[:] = nothing
    norm[:] = zero
    for j in range(scores.shape[0]):
        seen = j < length and visible[min(j, length - 1)]
        for i in range(width):
            score = scale * scores[j, i] if seen and j - behind <= i & (count - 1) else nothing
            scores[j, i] = score
            largest[i] = max(largest[i], score)
    for i in range(width):
        largest[i] = largest[i] if largest[i] > nothing else zero
    for j in range(scores.shape[0]):
        for i in range(width):
            seen = scores[j, i] != nothing  # true of a NaN
            weight = exp(scores[j, i] - largest[i] if seen else zero)  # exp(-inf) would be right, and slow
            weight = weight if seen else zero
            scores[j, i] = weight
            norm[i] += weight
    for i in range(width):
        norm[i] = one if norm[i] == zero else norm[i]  # no visible key: zeros
    for j in range(scores.shape[0]):
        for i in range(width):
            scores[j, i] = scores[j, i] / norm[i]


@kernel
def attention_backward(dout, q, k, v, starts, weights, scale, dq, dk, dv):
    """Gradients of `attention`; all [N, H*K], weights as it left them. dq, dk, dv are overwritten.

    ds = w * (dw - sum_j w dw) with dw = dout v^T; dq = scale ds k; dk = scale ds^T q; dv = w^T dout.
    """
    heads, longest, width = weights.shape[3] // TILE, weights.shape[2], q.shape[1]
    size = width // heads
    upstream, gradient = scratch(width, TILE, q), scratch(longest, heads * TILE, q)
    mean = scratch(1, heads * TILE, q)
    room = scratch(7 * longest, width, q).reshape(7, longest, width)
    for d in (dq, dk, dv):
        d[starts[-1] :] = 0.0
    for b in range(starts.size - 1):
        rows, length = slice(starts[b], starts[b + 1]), starts[b + 1] - starts[b]
        query, key = _padded(q[rows], room[0]), _padded(k[rows], room[1])
        value, outer = _padded(v[rows], room[2]), _padded(dout[rows], room[3])
        whole = length % ROWS == 0
        dquery, dkey = dq[rows] if whole else room[4], dk[rows] if whole else room[5]
        dvalue = dv[rows] if whole else room[6]
        dkey[: whole_tiles(length)] = 0.0
        dvalue[: whole_tiles(length)] = 0.0
        for t in range(tiles(length)):
            seen = tile_end(t, length)
            count, some = seen - t * TILE, slice(t * TILE, seen)
            lines = heads * count
            taken, dscores = front(weights[b, t], seen, lines), front(gradient, seen, lines)
            transpose(outer[t * TILE : (t + 1) * TILE], upstream)
            for h in range(heads):
                head, columns = slice(h * size, (h + 1) * size), slice(h * count, (h + 1) * count)
                small_gemm(value[:seen, head], upstream[head, :count], dscores[:, columns], False)
            _softmax_backward(taken, scale, dscores, mean[0, :lines])
            of_tile = query[some], outer[some], dquery[some]
            of_keys = key[:seen], dkey[:seen], dvalue[:seen]
            if count == TILE:  # LLVM unrolls chains whose length it knows
                _products(TILE, heads, taken, dscores, of_tile, of_keys)
            else:
                _products(ROWS, heads, taken, dscores, of_tile, of_keys)
        if not whole:
            copy(dquery[:length], dq[rows])
            copy(dkey[:length], dk[rows])
            copy(dvalue[:length], dv[rows])
    free(upstream)
    free(gradient)
    free(mean)
    free(room)


@inlined
def _products(count, heads, weights, dscores, of_tile, of_keys):
    """A tile of so many queries: dq = ds k; dk += ds^T q; dv += w^T dout."""
    query, outer, dquery = of_tile
    key, dkey, dvalue = of_keys
    size = key.shape[1] // heads
    for h in range(heads):
        head, columns = slice(h * size, (h + 1) * size), slice(h * count, (h + 1) * count)
        small_gemm(dscores[:, columns].T, key[:, head], dquery[:, head], False)
        small_gemm(dscores[:, columns], query[:, head], dkey[:, head], True)
        small_gemm(weights[:, columns], outer[:, head], dvalue[:, head], True)


@kernel
def _softmax_backward(weights, scale, gradient, mean):
    """In place, column by column: the gradient of the weights [S, H*count] becomes that of the unscaled scores."""
    mean[:] = 0.0
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            mean[i] += weights[j, i] * gradient[j, i]
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            gradient[j, i] = scale * (weights[j, i] * (gradient[j, i] - mean[i]))
