"""How far a correct cross-entropy may be from the oracle's: the worst case of loss.py's formula, and of autograd's.

A subject that shifts by the row's maximum and lets autograd through the maximum adds to the gradient of that logit
-sum_v g_v, with g the gradients of the shifted logits. In exact arithmetic they add up to 0; as they are computed, to
no more than the sum of their errors, and the sum of V terms rounds by less than V u sum |g_v|. Wherever a row has its
maximum the bound allows for both.

A subject may also compute nll = lse - x_target with lse = m + log sum exp(x - m), as JAX and PyTorch do outside of
their fused losses. Then lse is rounded once more, by u |lse|, and carried into the loss as it is: a mean of these over
the predicted tokens is added to the bound. Autograd gives that form the softmax exp(x - lse), whose exponent is off by
the rounding of lse and of the difference: 2 u |lse| and u |x - lse|, the second being that of x - m with one more term.
The gradient is then off by a factor of exp(2 u |lse|), which the bound allows for while the exponent is below
`FORM_ENDS`; for larger logits that form has no correct digits and is wrong. Source: Blanchard, Higham, Higham,
"Accurately computing the log-sum-exp and softmax functions", IMA J. Numer. Anal. 41, 2021, section 4.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reference import bounds, loss
from reference.arithmetic import DOUBLE, unit_roundoff
from reference.bounds import Bounded

FORM_ENDS = 2.0**-7
"""The largest error of the exponent of exp(x - lse) at which the gradient still has two correct digits; products of two
errors, each below it, are relative to one of them no larger."""


def cross_entropy(
    logits: Float[np.ndarray, "B T V"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    *,
    dtype: Any,
) -> tuple[Bounded, Bounded]:
    """Loss and gradient of loss.cross_entropy with their bounds."""
    value, gradient = plain(logits, targets, loss_mask, dtype=dtype)
    lse = np.abs(log_sum_exp(logits))
    tokens, unit = max(int(loss_mask.sum()), 1), unit_roundoff(dtype) + DOUBLE
    exponent = 2.0 * unit * lse
    factor = np.where(exponent < FORM_ENDS, np.expm1(np.minimum(exponent, FORM_ENDS)), 0.0)
    entries = np.where(loss_mask, factor / tokens, 0.0)[..., None] * loss.softmax(logits)
    more = unit * np.where(loss_mask, lse, 0.0).sum() / tokens
    return (
        Bounded(value.value, value.bound + more * (1.0 + FORM_ENDS)),
        Bounded(gradient.value, gradient.bound + entries * (1.0 + FORM_ENDS)),
    )


def log_sum_exp(logits: Float[np.ndarray, "B T V"]) -> Float[np.ndarray, "B T"]:
    """log sum exp of each row."""
    largest = logits.max(axis=-1)
    return largest + np.log(np.exp(logits - largest[..., None]).sum(axis=-1))


def plain(
    logits: Float[np.ndarray, "B T V"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    *,
    dtype: Any,
) -> tuple[Bounded, Bounded]:
    """The bounds of loss.py's formula, with a gradient that may go through the maximum."""
    value, gradient = bounds.worst_case(loss.cross_entropy, logits, targets, loss_mask, dtype=dtype)
    terms = gradient.bound + logits.shape[-1] * unit_roundoff(dtype) * np.abs(gradient.value)
    largest = logits == logits.max(axis=-1, keepdims=True)
    through_maximum = np.where(largest, terms.sum(axis=-1, keepdims=True), 0.0)
    return value, Bounded(gradient.value, gradient.bound + through_maximum)
