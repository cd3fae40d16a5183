"""Softmax cross-entropy over the vocabulary, with a loss mask; the loss and its gradient in one pass."""

import numpy as np

from impl.kernels.compile import kernel
from impl.kernels.elementary import exp, log
from impl.kernels.reduce import row_sum


@kernel
def cross_entropy(logits, targets, loss_mask, weight, dlogits):
    """Sum of -log softmax(logits)[target] over unmasked rows, in float64.

    logits, dlogits [N, V]; targets int64 [N]; loss_mask bool [N]. dlogits = weight * (softmax - one-hot), exactly 0
    in masked rows, whose logits are never read.
    """
    vocabulary = logits.shape[1]
    exponentials = np.empty(vocabulary)
    total = 0.0
    for n in range(logits.shape[0]):
        if not loss_mask[n]:
            dlogits[n, :] = 0.0
            continue
        largest = np.float64(logits[n, 0])
        for v in range(1, vocabulary):
            largest = max(largest, np.float64(logits[n, v]))
        for v in range(vocabulary):
            exponentials[v] = exp(np.float64(logits[n, v]) - largest)
        norm = row_sum(exponentials)
        target = targets[n]
        total += log(norm) - (np.float64(logits[n, target]) - largest)
        for v in range(vocabulary):
            dlogits[n, v] = weight * (exponentials[v] / norm)
        dlogits[n, target] = weight * (exponentials[target] / norm - 1.0)
    return total
