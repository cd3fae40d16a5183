"""Causal softmax attention with a key mask (Vaswani et al. 2017): softmax(q k^T / sqrt(K)) v, head by head.

Position i sees the keys j <= i that are not padding; a position that sees none gets zeros. Queries are taken a tile at
a time, and a tile meets only the keys up to its last query. Scores are kept with the keys as rows, the queries of all
heads side by side: what a softmax adds up then lies in different rows, j ascending, and LLVM works on many queries at
once without changing the order of any sum. Positions are padded with zeros to whole tiles: a zero in a chain
of `small_gemm` changes no number.
"""

import numpy as np

from impl.kernels.compile import kernel
from impl.kernels.elementary import exp
from impl.kernels.elementwise import copy
from impl.kernels.gemm import small_gemm
from impl.kernels.memory import free, scratch
from impl.kernels.transpose import transpose

TILE = 16


@kernel
def tiles(length):
    """How many tiles of queries a sequence has."""
    return -(-length // TILE)


@kernel
def attention(q, k, v, starts, key_mask, scale, out, weights):
    """q, k, v, out [N, H*K]; key_mask bool [N]; weights [B, tiles(T), P, H*TILE] receives the softmax.

    Sequence b is the rows starts[b] to starts[b + 1], at most T of them; rows behind the last become zeros. P is T
    padded to whole tiles; weights[b, t, j, h * TILE + i] is what query t * TILE + i of head h takes of key j, and is
    left as it was where j lies behind the tile.
    """
    heads, longest, width = weights.shape[3] // TILE, weights.shape[2], q.shape[1]
    size = width // heads
    queries, statistics = scratch(width, TILE, q), scratch(2, heads * TILE, q)
    room = scratch(4 * longest, width, q).reshape(4, longest, width)
    out[starts[-1] :] = 0.0
    for b in range(starts.size - 1):
        rows, length = slice(starts[b], starts[b + 1]), starts[b + 1] - starts[b]
        side = tiles(length) * TILE
        query, key = _whole_tiles(q[rows], room[0]), _whole_tiles(k[rows], room[1])
        value = _whole_tiles(v[rows], room[2])
        mixed = out[rows] if length == side else room[3]
        for t in range(side // TILE):
            some, seen = slice(t * TILE, (t + 1) * TILE), (t + 1) * TILE
            scores = weights[b, t, :seen]
            transpose(query[some], queries)
            for h in range(heads):
                head, columns = slice(h * size, (h + 1) * size), slice(h * TILE, (h + 1) * TILE)
                small_gemm(key[:seen, head], queries[head], scores[:, columns], False)
            _softmax(scores, scale, key_mask[rows], statistics[0], statistics[1])
            for h in range(heads):
                head, columns = slice(h * size, (h + 1) * size), slice(h * TILE, (h + 1) * TILE)
                small_gemm(scores[:, columns].T, value[:seen, head], mixed[some, head], False)
        if length < side:
            copy(mixed[:length], out[rows])
    free(queries)
    free(statistics)
    free(room)


@kernel
def _whole_tiles(x, room):
    """x [T, D] if its rows are whole tiles; else a copy in `room`, with zeros to the end of the tile."""
    length = x.shape[0]
    if length % TILE == 0:
        return x
    copy(x, room[:length])
    room[length : tiles(length) * TILE] = 0.0
    return room


@kernel
def _softmax(scores, scale, visible, largest, norm):
    """In place: softmax over the keys j of scale * scores [S, H*TILE], whose last query is S - 1; 0 for the unseen."""
    length, width = visible.size, scores.shape[1]
    nothing = scores.dtype.type(-np.inf)
    zero, one = scores.dtype.type(0.0), scores.dtype.type(1.0)
    behind = scores.shape[0] - TILE
    largest[:] = nothing
    norm[:] = zero
    for j in range(scores.shape[0]):
        seen = j < length and visible[min(j, length - 1)]
        for i in range(width):
            score = scale * scores[j, i] if seen and j - behind <= i % TILE else nothing
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
    longest, lines, width = weights.shape[2], weights.shape[3], q.shape[1]
    heads = lines // TILE
    size = width // heads
    upstream, gradient, mean = scratch(width, TILE, q), scratch(longest, lines, q), scratch(1, lines, q)
    room = scratch(7 * longest, width, q).reshape(7, longest, width)
    for d in (dq, dk, dv):
        d[starts[-1] :] = 0.0
    for b in range(starts.size - 1):
        rows, length = slice(starts[b], starts[b + 1]), starts[b + 1] - starts[b]
        side = tiles(length) * TILE
        query, key = _whole_tiles(q[rows], room[0]), _whole_tiles(k[rows], room[1])
        value, outer = _whole_tiles(v[rows], room[2]), _whole_tiles(dout[rows], room[3])
        whole = length == side
        dquery, dkey = dq[rows] if whole else room[4], dk[rows] if whole else room[5]
        dvalue = dv[rows] if whole else room[6]
        dkey[:side] = 0.0
        dvalue[:side] = 0.0
        for t in range(side // TILE):
            some, seen = slice(t * TILE, (t + 1) * TILE), (t + 1) * TILE
            taken, dscores = weights[b, t, :seen], gradient[:seen]
            transpose(outer[some], upstream)
            for h in range(heads):
                head, columns = slice(h * size, (h + 1) * size), slice(h * TILE, (h + 1) * TILE)
                small_gemm(value[:seen, head], upstream[head], dscores[:, columns], False)
            _softmax_backward(taken, scale, dscores, mean[0])
            for h in range(heads):
                head, columns = slice(h * size, (h + 1) * size), slice(h * TILE, (h + 1) * TILE)
                small_gemm(dscores[:, columns].T, key[:seen, head], dquery[some, head], False)
                small_gemm(dscores[:, columns], query[some, head], dkey[:seen, head], True)
                small_gemm(taken[:, columns], outer[some, head], dvalue[:seen, head], True)
        if not whole:
            copy(dquery[:length], dq[rows])
            copy(dkey[:length], dk[rows])
            copy(dvalue[:length], dv[rows])
    free(upstream)
    free(gradient)
    free(mean)
    free(room)


@kernel
def _softmax_backward(weights, scale, gradient, mean):
    """In place, column by column: the gradient of the weights [S, H*TILE] becomes that of the unscaled scores."""
    mean[:] = 0.0
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            mean[i] += weights[j, i] * gradient[j, i]
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            gradient[j, i] = scale * (weights[j, i] * (gradient[j, i] - mean[i]))
