"""Softmax cross-entropy over the vocabulary, with a loss mask; the loss and its gradient in one pass."""

import numpy as np

from impl.kernels.elementary import exp, log
from impl.kernels.reduce import row_max, row_sum
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.memory import free, scratch


@kernel
def cross_entropy(logits, targets, loss_mask, weight, nll, dlogits):
    """nll float64 [N]: -log softmax(logits)[target] of every unmasked row, 0 of a masked one.

    logits, dlogits [N, V]; targets int64 [N]; loss_mask bool [N]; weight of the dtype of logits. dlogits =
    weight * (softmax - one-hot), exactly 0 in masked rows, whose logits are never read.
    """
    vocabulary = logits.shape[1]
    one = logits.dtype.type(1.0)
    room = scratch(1, vocabulary, logits)
    weights = room[0]
    for n in range(logits.shape[0]):
        nll[n] = 0.0
        if not loss_mask[n]:
            dlogits[n, :] = 0.0
            continue
        largest = row_max(logits[n])
        for v in range(vocabulary):
            weights[v] = exp(logits[n, v] - largest)
        norm = row_sum(weights)
        target = targets[n]
        total = np.float64(norm)
        total = log(total) if total == total else total  # our log is one of numbers
        nll[n] = total - (np.float64(logits[n, target]) - np.float64(largest))
        for v in range(vocabulary):
            dlogits[n, v] = weight * (weights[v] / norm)
        dlogits[n, target] = weight * (weights[target] / norm - one)
    free(room)
