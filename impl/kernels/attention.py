"""Causal softmax attention with a key mask (Vaswani et al. 2017): softmax(q k^T / sqrt(K)) v for each head.

Position i attends to the keys j <= i that are not padding; a position without any gets zeros. As in FlashAttention (Dao
et al. 2022), queries are processed in blocks, each with the keys up to its last query only. Scores are stored with a
row for each key and a column for each query and head. So the sums of a softmax run over rows, j ascending, and LLVM
vectorises over columns without changing the order of a sum. Sequences are padded with zeros to whole tiles of `gemm`:
adding a product with zero changes no bit of an accumulator.
"""

import numpy as np

from impl.kernels.elementwise import copy
from impl.kernels.gemm import TILE_ROWS, small_gemm
from impl.kernels.math_functions import exp
from impl.kernels.packing import round_up_to_tile_rows
from impl.kernels.runtime.compile import kernel, llvm_inlined, numba_inlined
from impl.kernels.runtime.memory import allocate, free
from impl.kernels.transpose import transpose

QUERY_BLOCK = 16
"""Queries in a block. The last block of a sequence has TILE_ROWS if that is enough. Both numbers are powers of two."""


@kernel
def query_blocks(length):
    """The number of query blocks of a sequence."""
    return -(-length // QUERY_BLOCK)


@kernel
def query_block_end(t, length):
    """The position after query block t of a sequence, also the number of keys that the (causal) block attends to."""
    return min((t + 1) * QUERY_BLOCK, round_up_to_tile_rows(length))


@numba_inlined
def leading_matrix(buffer, rows, columns):
    """The first rows * columns elements of a buffer as a matrix."""
    return buffer.reshape(-1)[: rows * columns].reshape(rows, columns)


@kernel
def attention(q, k, v, starts, key_mask, scale, window, out, weights):
    """out = softmax(scale * q k^T) v over the last `window` keys (0: all); weights receives the softmax.

    q, k, v, out [N, H*K]; key_mask bool [N]. Sequence b is the rows starts[b] to starts[b + 1], at most T; rows after
    the last sequence become zeros. weights [B, query_blocks(T), P, H*QUERY_BLOCK], P = query_blocks(T) * QUERY_BLOCK:
    the leading matrix [keys, H*n] of weights[b, t] is a block of n queries, with the weight of key j for query i of
    head h at [j, h * n + i].
    """
    heads, longest, width = weights.shape[3] // QUERY_BLOCK, weights.shape[2], q.shape[1]
    head_size = width // heads
    q_T, statistics = allocate(width, QUERY_BLOCK, q), allocate(2, heads * QUERY_BLOCK, q)
    padded = allocate(4 * longest, width, q).reshape(4, longest, width)
    out[starts[-1] :] = 0.0
    for b in range(starts.size - 1):
        sequence, length = slice(starts[b], starts[b + 1]), starts[b + 1] - starts[b]
        q_padded, k_padded = _pad(q[sequence], padded[0]), _pad(k[sequence], padded[1])
        v_padded = _pad(v[sequence], padded[2])
        fills_tiles = length % TILE_ROWS == 0
        out_padded = out[sequence] if fills_tiles else padded[3]
        for t in range(query_blocks(length)):
            first, keys = t * QUERY_BLOCK, query_block_end(t, length)
            count = keys - first
            columns = heads * count
            scores = leading_matrix(weights[b, t], keys, columns)
            transpose(q_padded[first : first + QUERY_BLOCK], q_T)
            for h in range(heads):
                features, score_columns = (
                    slice(h * head_size, (h + 1) * head_size),
                    slice(h * count, (h + 1) * count),
                )
                small_gemm(k_padded[:keys, features], q_T[features, :count], scores[:, score_columns], False)
            if 0 < window < keys:
                _hide_far_keys(scores, window, count)
            _softmax(
                scores, scale, key_mask[sequence], count, statistics[0, :columns], statistics[1, :columns]
            )
            for h in range(heads):
                features, score_columns = (
                    slice(h * head_size, (h + 1) * head_size),
                    slice(h * count, (h + 1) * count),
                )
                w = scores[:, score_columns]  # the softmax was computed in place
                small_gemm(w.T, v_padded[:keys, features], out_padded[first:keys, features], False)
        if not fills_tiles:
            copy(out_padded[:length], out[sequence])
    free(q_T)
    free(statistics)
    free(padded)


@kernel
def _pad(x, buffer):
    """x [T, D] if it fills whole query blocks; else a copy in `buffer`, with zeros to the end of the last block."""
    length = x.shape[0]
    if length % QUERY_BLOCK == 0:
        return x
    copy(x, buffer[:length])
    buffer[length : query_blocks(length) * QUERY_BLOCK] = 0.0
    return buffer


@kernel
def _hide_far_keys(scores, window, count):
    """In place: scores [S, H*count] of keys that are `window` or more before the query become -infinity.

    `_softmax` gives them the weight 0, exactly; count is a power of two.
    """
    first_query = scores.shape[0] - count
    hidden = scores.dtype.type(-np.inf)
    for j in range(scores.shape[0]):
        for i in range(scores.shape[1]):
            distance = first_query + (i & (count - 1)) - j
            scores[j, i] = hidden if distance >= window else scores[j, i]


@kernel
def _softmax(scores, scale, key_mask, count, largest, norm):
    """In place: scores [S, H*count] become the softmax of scale * scores over the visible keys j, 0 for the others.

    The S rows are keys; the columns are the last `count` of the S queries, for each head. count is a power of two.
    largest, norm [H*count] are buffers.
    """
    length, width = key_mask.size, scores.shape[1]
    minus_infinity = scores.dtype.type(-np.inf)
    zero, one = scores.dtype.type(0.0), scores.dtype.type(1.0)
    first_query = scores.shape[0] - count
    largest[:] = minus_infinity
    norm[:] = zero
    for j in range(scores.shape[0]):
        unmasked = j < length and key_mask[min(j, length - 1)]
        for i in range(width):
            query = i & (count - 1)  # i % count, counted from first_query
            visible = unmasked and j - first_query <= query
            score = scale * scores[j, i] if visible else minus_infinity
            scores[j, i] = score
            largest[i] = max(largest[i], score)
    for i in range(width):
        largest[i] = largest[i] if largest[i] > minus_infinity else zero
    for j in range(scores.shape[0]):
        for i in range(width):
            visible = scores[j, i] != minus_infinity  # NaN != -inf, so NaN scores propagate
            # exp(-inf) is 0 too, but in float64 its products underflow, which takes a CPU some ten times as long.
            weight = exp(scores[j, i] - largest[i] if visible else zero)
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
    heads, longest, width = weights.shape[3] // QUERY_BLOCK, weights.shape[2], q.shape[1]
    head_size = width // heads
    dout_T, buffer = allocate(width, QUERY_BLOCK, q), allocate(longest, heads * QUERY_BLOCK, q)
    delta = allocate(1, heads * QUERY_BLOCK, q)
    padded = allocate(7 * longest, width, q).reshape(7, longest, width)
    for gradient in (dq, dk, dv):
        gradient[starts[-1] :] = 0.0
    for b in range(starts.size - 1):
        sequence, length = slice(starts[b], starts[b + 1]), starts[b + 1] - starts[b]
        q_padded, k_padded = _pad(q[sequence], padded[0]), _pad(k[sequence], padded[1])
        v_padded, dout_padded = _pad(v[sequence], padded[2]), _pad(dout[sequence], padded[3])
        fills_tiles = length % TILE_ROWS == 0
        dq_padded = dq[sequence] if fills_tiles else padded[4]
        dk_padded = dk[sequence] if fills_tiles else padded[5]
        dv_padded = dv[sequence] if fills_tiles else padded[6]
        dk_padded[: round_up_to_tile_rows(length)] = 0.0
        dv_padded[: round_up_to_tile_rows(length)] = 0.0
        for t in range(query_blocks(length)):
            first, keys = t * QUERY_BLOCK, query_block_end(t, length)
            count = keys - first
            columns = heads * count
            w, dw = leading_matrix(weights[b, t], keys, columns), leading_matrix(buffer, keys, columns)
            transpose(dout_padded[first : first + QUERY_BLOCK], dout_T)
            for h in range(heads):
                features, score_columns = (
                    slice(h * head_size, (h + 1) * head_size),
                    slice(h * count, (h + 1) * count),
                )
                small_gemm(v_padded[:keys, features], dout_T[features, :count], dw[:, score_columns], False)
            _softmax_backward(w, scale, dw, delta[0, :columns])
            ds = dw  # overwritten in place
            query_rows = q_padded[first:keys], dout_padded[first:keys], dq_padded[first:keys]
            key_rows = k_padded[:keys], dk_padded[:keys], dv_padded[:keys]
            if count == QUERY_BLOCK:  # LLVM unrolls a loop whose length is a constant
                _input_gradients(QUERY_BLOCK, heads, w, ds, query_rows, key_rows)
            else:
                _input_gradients(TILE_ROWS, heads, w, ds, query_rows, key_rows)
        if not fills_tiles:
            copy(dq_padded[:length], dq[sequence])
            copy(dk_padded[:length], dk[sequence])
            copy(dv_padded[:length], dv[sequence])
    free(dout_T)
    free(buffer)
    free(delta)
    free(padded)


@llvm_inlined
def _input_gradients(count, heads, w, ds, query_rows, key_rows):
    """For a block of `count` queries: dq = ds k; dk += ds^T q; dv += w^T dout."""
    q, dout, dq = query_rows
    k, dk, dv = key_rows
    head_size = k.shape[1] // heads
    for h in range(heads):
        features, score_columns = slice(h * head_size, (h + 1) * head_size), slice(h * count, (h + 1) * count)
        small_gemm(ds[:, score_columns].T, k[:, features], dq[:, features], False)
        small_gemm(ds[:, score_columns], q[:, features], dk[:, features], True)
        small_gemm(w[:, score_columns], dout[:, features], dv[:, features], True)


@kernel
def _softmax_backward(w, scale, dw, delta):
    """In place: dw [S, H*count] becomes ds, the gradient of the unscaled scores.

    delta is a buffer for sum_j w dw, called D in FlashAttention.
    """
    delta[:] = 0.0
    for j in range(w.shape[0]):
        for i in range(w.shape[1]):
            delta[i] += w[j, i] * dw[j, i]
    for j in range(w.shape[0]):
        for i in range(w.shape[1]):
            dw[j, i] = scale * (w[j, i] * (dw[j, i] - delta[i]))
