"""Causal softmax attention with a key mask (Vaswani et al. 2017): softmax(q k^T / sqrt(K)) v, head by head.

Position i sees the keys j <= i that are not padding; a position that sees none gets zeros. One head at a time is
copied into small contiguous arrays, padded with zeros to whole tiles of `gemm`, so that every product is one;
a zero appended to a chain changes no bit of it.
"""

import numpy as np

from impl.kernels.compile import kernel
from impl.kernels.elementary import exp
from impl.kernels.gemm import gemm
from impl.kernels.reduce import row_dot, row_sum

_TILE = 16


@kernel
def attention(q, k, v, key_mask, heads, scale, out, weights):
    """q, k, v, out [B*T, H*K]; key_mask bool [B, T]; weights [B, H, T, T] receives the softmax."""
    batch, length = key_mask.shape
    size = q.shape[1] // heads
    query, value, mixed = _head(length, size, q), _head(length, size, q), _head(length, size, q)
    key_transposed = _head(length, size, q).T.copy()
    scores = _head(length, query.shape[0], q)
    exponentials = np.zeros(length)
    for b in range(batch):
        for h in range(heads):
            rows, columns = slice(b * length, (b + 1) * length), slice(h * size, (h + 1) * size)
            query[:length] = q[rows, columns]
            key_transposed[:, :length] = k[rows, columns].T
            value[:length] = v[rows, columns]
            gemm(query, key_transposed, scores, False)
            for i in range(length):
                _softmax(scores[i], scale, key_mask[b], i + 1, exponentials)
            weights[b, h] = scores[:length, :length]
            gemm(scores, value, mixed, False)
            out[rows, columns] = mixed[:length]


@kernel
def _head(length, columns, like):
    """Zeros [length rounded up to whole tiles, columns] of the dtype of `like`."""
    return np.zeros((-(-length // _TILE) * _TILE, columns), like.dtype)


@kernel
def _softmax(row, scale, visible, count, exponentials):
    """In place: softmax of scale * row over the visible ones of the first `count`, 0 elsewhere."""
    largest = -np.inf
    for j in range(count):
        if visible[j]:
            largest = max(largest, np.float64(scale * row[j]))
    for j in range(count):
        exponentials[j] = exp(np.float64(scale * row[j]) - largest)
    for j in range(count):
        exponentials[j] = exponentials[j] if visible[j] else 0.0
    norm = row_sum(exponentials[:count])
    norm = norm if norm > 0.0 else 1.0  # no visible key: zeros
    for j in range(count):
        row[j] = exponentials[j] / norm
    row[count:] = 0.0


@kernel
def attention_backward(dout, q, k, v, weights, scale, dq, dk, dv):
    """Gradients of `attention`; all [B*T, H*K], weights [B, H, T, T] as it left them. dq, dk, dv are overwritten.

    ds = w * (dw - sum_j w dw) with dw = dout v^T; dq = scale ds k; dk = scale ds^T q; dv = w^T dout.
    """
    batch, heads, length, _ = weights.shape
    size = q.shape[1] // heads
    query, key = _head(length, size, q), _head(length, size, q)
    upstream, result = _head(length, size, q), _head(length, size, q)
    value_transposed = _head(length, size, q).T.copy()
    weight = _head(length, query.shape[0], q)
    dscores = _head(length, query.shape[0], q)
    w, dw = np.empty(length), np.empty(length)
    for b in range(batch):
        for h in range(heads):
            rows, columns = slice(b * length, (b + 1) * length), slice(h * size, (h + 1) * size)
            query[:length], key[:length], upstream[:length] = (
                q[rows, columns],
                k[rows, columns],
                dout[rows, columns],
            )
            value_transposed[:, :length] = v[rows, columns].T
            weight[:length, :length] = weights[b, h]
            gemm(upstream, value_transposed, dscores, False)
            for i in range(length):
                _softmax_backward(weight[i, :length], scale, dscores[i, :length], w, dw)
            _product(dscores, key, result, dq[rows, columns])
            _product(dscores.T, query, result, dk[rows, columns])
            _product(weight.T, upstream, result, dv[rows, columns])


@kernel
def _softmax_backward(weight, scale, gradient, w, dw):
    """In place: the gradient of the weights becomes that of the unscaled scores."""
    for j in range(weight.size):
        w[j], dw[j] = weight[j], gradient[j]
    mean = row_dot(w, dw)
    for j in range(weight.size):
        gradient[j] = scale * (w[j] * (dw[j] - mean))


@kernel
def _product(a, b, padded, out):
    """out = a @ b without the padding rows; `padded` is scratch."""
    gemm(a, b, padded, False)
    out[:] = padded[: out.shape[0]]
