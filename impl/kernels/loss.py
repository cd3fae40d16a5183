"""Softmax cross-entropy over the vocabulary, with a loss mask; the loss and its gradient in one pass."""

import numpy as np

from impl.kernels.math_functions import exp, log
from impl.kernels.reduce import row_max, row_sum
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.memory import allocate, free


@kernel
def cross_entropy(logits, targets, loss_mask, loss_scale, nll, dlogits):
    """nll[n] = -log softmax(logits[n])[targets[n]], dlogits = loss_scale * (softmax - one-hot), where loss_mask.

    Both are exactly 0 in the other rows, whose logits are not read. logits, dlogits [N, V]; nll float64 [N]; targets
    int64 [N]; loss_mask bool [N]; loss_scale of the dtype of logits.
    """
    vocab_size = logits.shape[1]
    one = logits.dtype.type(1.0)
    buffer = allocate(1, vocab_size, logits)
    exps = buffer[0]
    for n in range(logits.shape[0]):
        nll[n] = 0.0
        if not loss_mask[n]:
            dlogits[n, :] = 0.0
            continue
        largest = row_max(logits[n])
        for v in range(vocab_size):
            exps[v] = exp(logits[n, v] - largest)
        norm = row_sum(exps)
        target = targets[n]
        log_norm = np.float64(norm)
        log_norm = log(log_norm) if log_norm == log_norm else log_norm  # `log` is not defined for a NaN
        nll[n] = log_norm - (np.float64(logits[n, target]) - np.float64(largest))
        for v in range(vocab_size):
            dlogits[n, v] = loss_scale * (exps[v] / norm)
        dlogits[n, target] = loss_scale * (exps[target] / norm - one)
    free(buffer)
