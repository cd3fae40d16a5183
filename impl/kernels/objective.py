"""What is minimised beside the cross-entropy: label smoothing and the z-loss; and the soft cap of the logits.

All of it is computed in double precision and rounded once. Off, none of these kernels is called. The law:
reference/training_loss.py.
"""

import numpy as np

from impl.kernels.math_functions import exp, log
from impl.kernels.runtime.compile import kernel, llvm_inlined

# tanh x = x + x s P(s) / Q(s) with s = x^2, |x| < 0.625: the rational function of Cephes (Moshier 1989), tanh.c.
_P2, _P1, _P0 = -9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3
_Q2, _Q1, _Q0 = 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3
_SMALL, _LARGE = 0.625, 22.0
"""Below the first the quotient of exponentials loses digits; beyond the second tanh is 1 to double precision."""


@llvm_inlined
def tanh(x):
    """Hyperbolic tangent of a float64; NaN for NaN."""
    size = min(abs(x), _LARGE)
    square = size * size
    near = size + size * square * (
        ((_P2 * square + _P1) * square + _P0) / (((square + _Q2) * square + _Q1) * square + _Q0)
    )
    far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0)
    value = near if size < _SMALL else far
    value = value if x >= 0.0 else -value
    return value if x == x else x


@kernel
def soft_cap(x, cap, scale, out):
    """out = cap tanh(scale x / cap), element by element; x and out [N, D], the same array or two; cap > 0."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            out[n, d] = np.float64(cap) * tanh(np.float64(scale) * np.float64(x[n, d]) / np.float64(cap))


@kernel
def soft_cap_backward(capped, cap, scale, dx):
    """In place: dx [N, D] times scale (1 - (y / cap)^2), y the capped values [N, D]."""
    for n in range(dx.shape[0]):
        for d in range(dx.shape[1]):
            t = np.float64(capped[n, d]) / np.float64(cap)
            dx[n, d] = np.float64(dx[n, d]) * (np.float64(scale) * (1.0 - t) * (1.0 + t))


@kernel
def add_penalties(logits, targets, loss_mask, loss_scale, label_smoothing, z_loss, penalties, dlogits):
    """penalties[n] = the objective of a token less its cross-entropy, and its gradient times loss_scale to dlogits.

    e (mean_v (lse - x_v) - (lse - x_target)) + z lse^2, lse = log sum_v exp(x_v). Only rows of the loss mask are read;
    in the others `penalties` is 0 and dlogits stays. logits, dlogits [N, V]; targets int64 [N]; loss_mask bool [N];
    penalties float64 [N]; label_smoothing e and z_loss z float64.
    """
    vocab_size = logits.shape[1]
    share = label_smoothing / vocab_size
    scale = np.float64(loss_scale)
    for n in range(logits.shape[0]):
        penalties[n] = 0.0
        if not loss_mask[n]:
            continue
        largest = np.float64(logits[n, 0])
        for v in range(1, vocab_size):
            value = np.float64(logits[n, v])
            largest = value if value > largest or value != value else largest
        norm, below = 0.0, 0.0
        for v in range(vocab_size):
            shifted = np.float64(logits[n, v]) - largest
            norm += exp(shifted)
            below -= shifted
        log_norm = log(norm) if norm == norm else norm  # `log` is not defined for a NaN
        lse, target = largest + log_norm, targets[n]
        toward = np.float64(logits[n, target]) - largest
        penalties[n] = label_smoothing * (below / vocab_size + toward) + z_loss * (lse * lse)
        for v in range(vocab_size):
            p = exp(np.float64(logits[n, v]) - largest) / norm
            more = 2.0 * z_loss * lse * p - share + (label_smoothing if v == target else 0.0)
            dlogits[n, v] = np.float64(dlogits[n, v]) + scale * more
