"""Rotary position embedding with rotate-half pairing, and its gradient.

Feature i of a head of size K is paired with feature i + K/2; at position t (from 0) the pair is turned by the angle
t * base^(-2i/K). The dot product of two turned vectors depends on their distance alone.
Source: Su et al., "RoFormer", 2021, section 3.2, in the pairing of the GPT-NeoX family.
"""

import numpy as np
from jaxtyping import Float


def rotate(x: Float[np.ndarray, "B H T K"], base: float, direction: int) -> Float[np.ndarray, "B H T K"]:
    """Every pair turned by `direction` (+1 or -1) times its angle."""
    length, size = x.shape[-2:]
    half = size // 2
    # `like=x`: the table of angles is computed in the arithmetic of x (see running_error.py).
    position = np.arange(length, like=x)[:, None]
    frequency = base ** (np.arange(half, like=x) * (-2.0 / size))
    angle = position * frequency
    cos, sin = np.cos(angle), direction * np.sin(angle)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rope(x: Float[np.ndarray, "B H T K"], base: float) -> Float[np.ndarray, "B H T K"]:
    """x turned by the angles of its positions. K is even."""
    return rotate(x, base, +1)


def rope_backward(dy: Float[np.ndarray, "B H T K"], base: float) -> Float[np.ndarray, "B H T K"]:
    """The transpose of a rotation: turned back by the same angles."""
    return rotate(dy, base, -1)
