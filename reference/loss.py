"""Cross-entropy with a loss mask: the mean over the predicted tokens, not over rows, not over positions.

    nll_t = log sum_v exp(x_tv - m_t) - (x_t,target - m_t),   m_t = max_v x_tv
    loss  = sum_t mask_t nll_t / sum_t mask_t

The shift by m_t changes no value and keeps exp in range (Blanchard, Higham, Higham, "Accurately computing the
log-sum-exp and softmax functions", IMA J. Numer. Anal. 41, 2021).
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def token_nll(
    logits: Float[np.ndarray, "B T V"], targets: Int[np.ndarray, "B T"]
) -> Float[np.ndarray, "B T"]:
    """Negative log-likelihood of each target, in nats."""
    shifted = logits - np.max(np.real(logits), axis=-1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=-1))
    return log_total - np.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0]


def softmax(logits: Float[np.ndarray, "*batch V"]) -> Float[np.ndarray, "*batch V"]:
    """exp(x - m) / sum exp(x - m) along the last axis, m the largest entry of each row."""
    exponentials = np.exp(logits - np.max(np.real(logits), axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def masked_mean(nll: Float[np.ndarray, "B T"], loss_mask: Bool[np.ndarray, "B T"]) -> Float[np.ndarray, ""]:
    """Nats per predicted token: the sum over them divided by their number; 0 when there is nothing to predict."""
    return np.where(loss_mask, nll, 0.0).sum() / max(int(loss_mask.sum()), 1)


def cross_entropy(
    logits: Float[np.ndarray, "B T V"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, "B T V"]]:
    """Loss in nats per predicted token, and its gradient (softmax - one_hot) * mask / tokens.

    What stands at a masked position, target and logits alike, has no influence and gets a gradient of exactly 0.
    A batch with nothing to predict has loss 0 and gradient 0.
    """
    loss = masked_mean(token_nll(logits, targets), loss_mask)
    one_hot = (targets[..., None] == np.arange(logits.shape[-1])).astype(np.float64)
    tokens = max(int(loss_mask.sum()), 1)
    return loss, np.where(loss_mask[..., None], softmax(logits) - one_hot, 0.0) / tokens
