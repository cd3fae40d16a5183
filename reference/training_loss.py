"""What is minimised where it is more than the cross-entropy: label smoothing, the z-loss, capped logits.

With raw logits z, of one predicted token, and V the size of the vocabulary:

    x = c tanh(z / c)                                          the soft cap c; x = z without one (c = 0)
    lse = log sum_v exp(x_v)
    w_v = (1 - e) [v = target] + e / V                         label smoothing e
    objective = sum_v w_v (lse - x_v) + a lse^2                z-loss a
    dobjective / dz_v = (p_v (sum w + 2 a lse) - w_v) (1 - (x_v / c)^2),   p = softmax(x)

Both are then the mean over the predicted tokens, exactly as the cross-entropy is: each term is divided by the same
number. The cross-entropy that is reported is lse - x_target, without smoothing and without the z-loss.

Sources: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016, section 7 (smoothing); Chowdhery et al.,
"PaLM", 2022, section 5 (z-loss, 1e-4 log^2 Z); Bello et al., "Neural combinatorial optimization", 2016, appendix A.1,
and Gemma Team, "Gemma 2", 2024, section 2 (soft cap).
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reference import bounds, loss
from reference.arithmetic import DOUBLE, unit_roundoff
from reference.bounds import Bounded
from reference.loss_bounds import FORM_ENDS, log_sum_exp


def softcap(x: Float[np.ndarray, "..."], cap: float, scale: float = 1.0) -> Float[np.ndarray, "..."]:
    """cap tanh(scale x / cap), which is never beyond the cap."""
    return cap * np.tanh(scale * x / cap)


def softcap_backward(
    x: Float[np.ndarray, "..."], cap: float, scale: float, dy: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """The gradient to x: dy scale (1 - tanh(scale x / cap)^2)."""
    t = np.tanh(scale * x / cap)
    return dy * (scale * (1.0 - t * t))


def smoothed_targets(
    targets: Int[np.ndarray, "B T"], vocab_size: int, smoothing: Any
) -> Float[np.ndarray, "B T V"]:
    """(1 - e) one-hot + e / V."""
    one_hot = (targets[..., None] == np.arange(vocab_size)).astype(np.float64)
    return (1.0 - smoothing) * one_hot + smoothing / vocab_size


def training_loss(
    logits: Float[np.ndarray, "B T V"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    *,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, ""], Float[np.ndarray, "B T V"]]:
    """(objective, cross-entropy, gradient of the objective to the raw logits), nats per predicted token."""
    tanh = np.tanh(logits / softcap) if softcap else None
    capped = logits if tanh is None else softcap * tanh
    largest = np.max(np.real(capped), axis=-1, keepdims=True)
    shifted = capped - largest
    log_total = np.log(np.exp(shifted).sum(axis=-1))
    # Numbers that are known exactly become what the subject computes with: rounded to the type of its arrays.
    e, a = label_smoothing + 0.0 * shifted, z_loss + 0.0 * log_total
    weights = smoothed_targets(targets, logits.shape[-1], e)
    smooth = (weights * (log_total[..., None] - shifted)).sum(axis=-1)
    log_norm = largest[..., 0] + log_total
    objective = loss.masked_mean(smooth + a * (log_norm * log_norm), loss_mask)
    factor = weights.sum(axis=-1) + 2.0 * a * log_norm
    gradient = loss.softmax(capped) * factor[..., None] - weights
    gradient = gradient if tanh is None else gradient * (1.0 - tanh * tanh)
    tokens = max(int(loss_mask.sum()), 1)
    reported = loss.masked_mean(loss.token_nll(capped, targets), loss_mask)
    return objective, reported, np.where(loss_mask[..., None], gradient, 0.0) / tokens


def bounded_training_loss(
    logits: Float[np.ndarray, "B T V"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    *,
    dtype: Any,
    scalars: str = "double",
    **how: float,
) -> tuple[Bounded, Bounded, Bounded]:
    """`training_loss` with bounds for the forms that loss_bounds.py grants a cross-entropy.

    A subject may let autograd through the maximum, and may compute log-probabilities as x - lse.
    """
    objective, reported, gradient = bounds.worst_case(
        training_loss, logits, targets, loss_mask, dtype=dtype, scalars=scalars, **how
    )
    cap, z_loss = how["softcap"], how["z_loss"]
    capped, slope, inner = logits, np.ones_like(logits), gradient
    if cap:
        capped = softcap(logits, cap)
        slope = 1.0 - (capped / cap) ** 2
        uncapped = {**how, "softcap": 0.0}
        inner = bounds.worst_case(
            training_loss, capped, targets, loss_mask, dtype=dtype, scalars=scalars, **uncapped
        )[2]
    terms = inner.bound + logits.shape[-1] * unit_roundoff(dtype) * np.abs(inner.value)
    largest = capped == capped.max(axis=-1, keepdims=True)
    through_maximum = np.where(largest, terms.sum(axis=-1, keepdims=True) * slope, 0.0)
    tokens, unit = max(int(loss_mask.sum()), 1), unit_roundoff(dtype) + DOUBLE
    lse = log_sum_exp(capped)
    exponent = 2.0 * unit * np.abs(lse)
    off = np.where(exponent < FORM_ENDS, np.expm1(np.minimum(exponent, FORM_ENDS)), 0.0)
    entries = np.where(loss_mask, off * np.abs(1.0 + 2.0 * z_loss * lse) / tokens, 0.0)[..., None]
    gradient_bound = (
        gradient.bound + through_maximum + entries * slope * loss.softmax(capped) * (1.0 + FORM_ENDS)
    )
    more = unit * np.where(loss_mask, np.abs(lse), 0.0).sum() / tokens * (1.0 + FORM_ENDS)
    return (
        Bounded(objective.value, objective.bound + more),
        Bounded(reported.value, reported.bound + more),
        Bounded(gradient.value, gradient_bound),
    )
