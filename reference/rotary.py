"""Rotary position embedding, and its gradient.

In a head of size K, pair i (from 0) of the features is rotated at position t (from 0) by the angle t * base^(-2i/K).
Pair i is, in the pairing of
    halves        features i and i + K/2       the GPT-NeoX family
    neighbours    features 2i and 2i + 1       the paper, equation 15; CS336, assignment 1
A pairing that ends in "backwards" rotates by the negative angle (nanochat): the same dot products.
The dot product of two rotated vectors depends on their distance alone. Source:
Su et al., "RoFormer", 2021, section 3.2.
"""

import numpy as np
from jaxtyping import Float


def rotate(
    x: Float[np.ndarray, "B H T K"], base: float, direction: int, pairing: str = "halves"
) -> Float[np.ndarray, "B H T K"]:
    """Every pair rotated by `direction` (+1 or -1) times its angle. K is even."""
    length, size = x.shape[-2:]
    half = size // 2
    # `like=x`: the angles are computed by the class of x, for arrays that are not plain ndarrays.
    position = np.arange(length, like=x)[:, None]
    frequency = base ** (np.arange(half, like=x) * (-2.0 / size))
    angle = position * frequency
    pairs, _, backwards = pairing.partition(" ")
    cos, sin = np.cos(angle), (-direction if backwards else direction) * np.sin(angle)
    order = np.arange(size) if pairs == "halves" else np.arange(size).reshape(half, 2).T.reshape(-1)
    first, second = x[..., order[:half]], x[..., order[half:]]
    rotated = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated[..., np.argsort(order)]


def rope(
    x: Float[np.ndarray, "B H T K"], base: float, *, pairing: str = "halves"
) -> Float[np.ndarray, "B H T K"]:
    """x rotated by the angles of its positions. K is even."""
    return rotate(x, base, +1, pairing)


def rope_backward(
    dy: Float[np.ndarray, "B H T K"], base: float, *, pairing: str = "halves"
) -> Float[np.ndarray, "B H T K"]:
    """dx for an incoming gradient dy: the transpose of a rotation is the rotation by the negative angle."""
    return rotate(dy, base, -1, pairing)
