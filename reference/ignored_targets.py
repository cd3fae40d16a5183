"""A cross-entropy whose targets say themselves what is not predicted: those that are `ignore_index`.

The mask of loss.py is then (target != ignore_index). The value is a convention of the data: -100 in PyTorch and
transformers, -1 in nanoGPT and nanochat, any number that a caller gives. Only that number is ignored.
"""

import numpy as np
from jaxtyping import Float, Int

from reference.loss import cross_entropy


def ignoring_cross_entropy(
    logits: Float[np.ndarray, "B T V"], targets: Int[np.ndarray, "B T"], ignore_index: int
) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, "B T V"]]:
    """Mean over the targets that are not `ignore_index`, in nats, and its gradient; 0 if all of them are."""
    predicted = targets != ignore_index
    return cross_entropy(logits, np.where(predicted, targets, 0), predicted)
