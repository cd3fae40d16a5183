"""Causal softmax attention with a key mask (Vaswani et al. 2017): softmax(q k^T / sqrt(K)) v, head by head.

Position i sees the keys j <= i that are not padding; a position that sees none gets zeros. Scores are kept with the
keys as rows: what a softmax adds up then lies in different rows, j ascending, and LLVM works on many queries at once
without changing the order of any sum. Positions are padded with zeros to whole tiles of `gemm`; a zero appended to a
chain changes no bit of it.
"""

import numpy as np

from impl.kernels.compile import kernel
from impl.kernels.elementary import exp
from impl.kernels.gemm import gemm

TILE = 16


def padded(length):
    """The length of scores: whole tiles."""
    return -(-length // TILE) * TILE


@kernel
def attention(q, k, v, key_mask, heads, scale, out, weights):
    """q, k, v, out [B*T, H*K]; key_mask bool [B, T]; weights [B, H, P, P], P = padded(T), receives the softmax.

    weights[b, h, j, i] is what query i takes of key j.
    """
    batch, length = key_mask.shape
    size, side = q.shape[1] // heads, weights.shape[2]
    query, keys = np.zeros((size, side), q.dtype), np.zeros((side, size), q.dtype)
    values, mixed = np.zeros((side, size), q.dtype), np.zeros((side, size), q.dtype)
    largest, norm = np.empty(side, q.dtype), np.empty(side, q.dtype)
    for b in range(batch):
        for h in range(heads):
            first, left = b * length, h * size
            for i in range(length):
                for d in range(size):
                    query[d, i] = q[first + i, left + d]
                    keys[i, d] = k[first + i, left + d]
                    values[i, d] = v[first + i, left + d]
            gemm(keys, query, weights[b, h], False)
            _softmax(weights[b, h], scale, key_mask[b], largest, norm)
            gemm(weights[b, h].T, values, mixed, False)
            for i in range(length):
                for d in range(size):
                    out[first + i, left + d] = mixed[i, d]


@kernel
def _softmax(scores, scale, visible, largest, norm):
    """In place, column by column: softmax of scale * scores over the keys that are visible to query i, 0 elsewhere."""
    side, length = scores.shape[0], visible.size
    nothing = scores.dtype.type(-np.inf)
    zero, one = scores.dtype.type(0.0), scores.dtype.type(1.0)
    for i in range(side):
        largest[i] = nothing
        norm[i] = zero
    for j in range(side):
        seen = j < length and visible[min(j, length - 1)]
        for i in range(side):
            score = scale * scores[j, i] if seen and j <= i else nothing
            scores[j, i] = score
            largest[i] = max(largest[i], score)
    for i in range(side):
        largest[i] = largest[i] if largest[i] > nothing else zero
    for j in range(side):
        for i in range(side):
            seen = scores[j, i] != nothing  # true of a NaN
            weight = exp(scores[j, i] - largest[i] if seen else zero)  # exp(-inf) would be right, and slow
            weight = weight if seen else zero
            scores[j, i] = weight
            norm[i] += weight
    for i in range(side):
        norm[i] = one if norm[i] == zero else norm[i]  # no visible key: zeros
    for j in range(side):
        for i in range(side):
            scores[j, i] = scores[j, i] / norm[i]


@kernel
def attention_backward(dout, q, k, v, weights, scale, dq, dk, dv):
    """Gradients of `attention`; all [B*T, H*K], weights [B, H, P, P] as it left them. dq, dk, dv are overwritten.

    ds = w * (dw - sum_j w dw) with dw = dout v^T; dq = scale ds k; dk = scale ds^T q; dv = w^T dout.
    """
    batch, heads, side, _ = weights.shape
    size, length = q.shape[1] // heads, q.shape[0] // batch
    upstream = np.zeros((size, side), q.dtype)
    rows = np.zeros((4, side, size), q.dtype)
    query, key, value, outer = rows[0], rows[1], rows[2], rows[3]
    results = np.zeros((3, side, size), q.dtype)
    dscores, mean = np.empty((side, side), q.dtype), np.empty(side, q.dtype)
    for b in range(batch):
        for h in range(heads):
            first, left = b * length, h * size
            for i in range(length):
                for d in range(size):
                    query[i, d] = q[first + i, left + d]
                    key[i, d] = k[first + i, left + d]
                    value[i, d] = v[first + i, left + d]
                    outer[i, d] = dout[first + i, left + d]
                    upstream[d, i] = dout[first + i, left + d]
            gemm(value, upstream, dscores, False)
            _softmax_backward(weights[b, h], scale, dscores, mean)
            gemm(dscores.T, key, results[0], False)
            gemm(dscores, query, results[1], False)
            gemm(weights[b, h], outer, results[2], False)
            for i in range(length):
                for d in range(size):
                    dq[first + i, left + d] = results[0, i, d]
                    dk[first + i, left + d] = results[1, i, d]
                    dv[first + i, left + d] = results[2, i, d]


@kernel
def _softmax_backward(weights, scale, gradient, mean):
    """In place, column by column: the gradient of the weights becomes that of the unscaled scores."""
    side = weights.shape[0]
    for i in range(side):
        mean[i] = 0.0
    for j in range(side):
        for i in range(side):
            mean[i] += weights[j, i] * gradient[j, i]
    for j in range(side):
        for i in range(side):
            gradient[j, i] = scale * (weights[j, i] * (gradient[j, i] - mean[i]))
