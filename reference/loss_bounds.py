"""How far a correct cross-entropy may be from the oracle's: the worst case of loss.py's formula, and of autograd's.

A subject that shifts by the row's maximum and lets autograd through the maximum adds to the gradient of that logit
-sum_v g_v, with g the gradients of the shifted logits. In exact arithmetic they add up to 0; as they are computed, to
no more than the sum of their errors, and the sum of V terms rounds by less than V u sum |g_v|. Wherever a row has its
maximum the bound allows for both.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reference import bounds, loss
from reference.arithmetic import unit_roundoff
from reference.bounds import Bounded


def cross_entropy(
    logits: Float[np.ndarray, "B T V"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    *,
    dtype: Any,
) -> tuple[Bounded, Bounded]:
    """Loss and gradient of loss.cross_entropy with their bounds."""
    value, gradient = bounds.worst_case(loss.cross_entropy, logits, targets, loss_mask, dtype=dtype)
    terms = gradient.bound + logits.shape[-1] * unit_roundoff(dtype) * np.abs(gradient.value)
    largest = logits == logits.max(axis=-1, keepdims=True)
    through_maximum = np.where(largest, terms.sum(axis=-1, keepdims=True), 0.0)
    return value, Bounded(gradient.value, gradient.bound + through_maximum)
