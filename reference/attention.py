"""Causal scaled dot-product attention with a key-padding mask, and its gradient.

    out_i = sum_j w_ij v_j,   w_i = softmax over the visible j of  q_i . k_j / sqrt(K)

Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, equation 1. A position that may
attend to nothing has the output 0, and gives no gradient to anything.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

from reference.masks import attention_mask

HIDDEN = -1e9
"""What is added to a score that may not be seen, in BERT's and GPT-2's first code."""


def masked_softmax(
    scores: Float[np.ndarray, "B H T T"], visible: Bool[np.ndarray, "B 1 T T"]
) -> Float[np.ndarray, "B H T T"]:
    """Softmax along the last axis over the visible entries; the others are exactly 0."""
    largest = np.max(np.where(visible, np.real(scores), -np.inf), axis=-1, keepdims=True)
    shifted = np.where(visible, scores - np.where(np.isfinite(largest), largest, 0.0), 0.0)
    exponentials = np.where(visible, np.exp(shifted), 0.0)
    total = np.where(visible.any(axis=-1, keepdims=True), exponentials.sum(axis=-1, keepdims=True), 1.0)
    return exponentials / total


def attention_weights(
    q: Float[np.ndarray, "B H T K"], k: Float[np.ndarray, "B H T K"], key_mask: Bool[np.ndarray, "B T"]
) -> Float[np.ndarray, "B H T T"]:
    """Entry (b, h, i, j) is the weight of value j in output i; rows add up to 1, or are 0 where nothing is visible."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    return masked_softmax(scores, attention_mask(key_mask))


def additive_attention(
    q: Float[np.ndarray, "B H T K"],
    k: Float[np.ndarray, "B H T K"],
    v: Float[np.ndarray, "B H T K"],
    key_mask: Bool[np.ndarray, "B T"],
) -> Float[np.ndarray, "B H T K"]:
    """`attention` as many models write it: -1e9 is added to every score that may not be seen.

    Where something is visible the others underflow to weights of exactly 0. Where nothing is, the output is a mean of
    values that may not be seen.
    """
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    hidden = np.where(attention_mask(key_mask), 0.0, HIDDEN).astype(np.asarray(q).dtype)
    exponentials = np.exp(scores + hidden - (scores + hidden).max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True) @ v


def attention(
    q: Float[np.ndarray, "B H T K"],
    k: Float[np.ndarray, "B H T K"],
    v: Float[np.ndarray, "B H T K"],
    key_mask: Bool[np.ndarray, "B T"],
) -> Float[np.ndarray, "B H T K"]:
    """Each position's weighted mean of the values it may see; 0 if there are none."""
    return attention_weights(q, k, key_mask) @ v


def attention_backward(
    q: Float[np.ndarray, "B H T K"],
    k: Float[np.ndarray, "B H T K"],
    v: Float[np.ndarray, "B H T K"],
    key_mask: Bool[np.ndarray, "B T"],
    dout: Float[np.ndarray, "B H T K"],
) -> tuple[Float[np.ndarray, "B H T K"], Float[np.ndarray, "B H T K"], Float[np.ndarray, "B H T K"]]:
    """(dq, dk, dv) for an incoming gradient `dout`: ds = w * (dw - sum_j w dw), the softmax's Jacobian.

    sum_j w_ij dw_ij = dout_i . out_i, as FlashAttention has it (Dao et al., NeurIPS 2022, appendix B.2): in this
    form the two terms have separate rounding errors, so that the bounds hold for either form.
    """
    return backward_from(attention_weights(q, k, key_mask), q, k, v, dout)


def backward_from(
    weights: Float[np.ndarray, "B H T T"],
    q: Float[np.ndarray, "B H T K"],
    k: Float[np.ndarray, "B H T K"],
    v: Float[np.ndarray, "B H T K"],
    dout: Float[np.ndarray, "B H T K"],
) -> tuple[Float[np.ndarray, "B H T K"], Float[np.ndarray, "B H T K"], Float[np.ndarray, "B H T K"]]:
    """(dq, dk, dv) of attention with these weights, whatever mask they were made with."""
    dweights = dout @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (dout * (weights @ v)).sum(axis=-1, keepdims=True))
    scale = math.sqrt(q.shape[-1])
    return (
        dscores @ k / scale,
        dscores.swapaxes(-1, -2) @ q / scale,
        weights.swapaxes(-1, -2) @ dout,
    )
