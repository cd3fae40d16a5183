"""Sliding-window attention: causal attention that also forgets what is too far back, and its gradient.

Position i may attend to position j when j holds a real token and 0 <= i - j < n, where n is what a window of w means:

    window = "w"        n = w: w keys, the position itself among them
    window = "w + 1"    n = w + 1: the position itself and the w before it

Source: Beltagy, Peters, Cohan, "Longformer", 2020, section 3.1; Jiang et al., "Mistral 7B", 2023, section 2 ("w"); the
left window of FlashAttention 2 counts the keys before the query ("w + 1").
"""

import math

import numpy as np
from jaxtyping import Bool, Float

from reference.attention import backward_from, masked_softmax
from reference.masks import attention_mask


def keys_in_reach(window: int, counted: str) -> int:
    """How many keys, itself included, a position may attend to at most."""
    return window + {"w": 0, "w + 1": 1}[counted]


def window_mask(key_mask: Bool[np.ndarray, "B T"], window: int, counted: str) -> Bool[np.ndarray, "B 1 T T"]:
    """Entry (b, 0, i, j) is true when position i of row b may attend to position j."""
    place = np.arange(key_mask.shape[1])
    near = place[:, None] - place < keys_in_reach(window, counted)
    return attention_mask(key_mask) & near


def window_attention(
    q: Float[np.ndarray, "B H T K"],
    k: Float[np.ndarray, "B H T K"],
    v: Float[np.ndarray, "B H T K"],
    key_mask: Bool[np.ndarray, "B T"],
    window: int,
    *,
    counted: str = "w",
) -> Float[np.ndarray, "B H T K"]:
    """Each position's weighted mean of the values in its window; 0 if it may attend to none."""
    return window_weights(q, k, key_mask, window, counted) @ v


def window_attention_backward(
    q: Float[np.ndarray, "B H T K"],
    k: Float[np.ndarray, "B H T K"],
    v: Float[np.ndarray, "B H T K"],
    key_mask: Bool[np.ndarray, "B T"],
    window: int,
    dout: Float[np.ndarray, "B H T K"],
    *,
    counted: str = "w",
) -> tuple[Float[np.ndarray, "B H T K"], Float[np.ndarray, "B H T K"], Float[np.ndarray, "B H T K"]]:
    """(dq, dk, dv) for an incoming gradient `dout`."""
    return backward_from(window_weights(q, k, key_mask, window, counted), q, k, v, dout)


def window_weights(
    q: Float[np.ndarray, "B H T K"],
    k: Float[np.ndarray, "B H T K"],
    key_mask: Bool[np.ndarray, "B T"],
    window: int,
    counted: str,
) -> Float[np.ndarray, "B H T T"]:
    """The softmax over the visible keys; rows add up to 1, or are 0."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    return masked_softmax(scores, window_mask(key_mask, window, counted))
