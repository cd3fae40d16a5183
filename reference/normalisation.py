"""Layer normalisation over the last axis with its gradient, and RMS normalisation.

    layer_norm   y = (x - mean) / sqrt(var + eps) * gamma + beta,   var = mean((x - mean)^2)   (divisor D, not D - 1)
                 variance = "one pass" (flax and jax.nn.standardize by default): var = max(0, mean(x^2) - mean^2), the
                 same in exact arithmetic; in floating point it loses as many digits as the mean has more than x - mean
    rms_norm     y = x / sqrt(mean(x^2) + eps) * gamma

Sources: Ba, Kiros, Hinton, "Layer normalization", 2016, equations 3 and 4; Zhang, Sennrich, "Root mean square layer
normalization", NeurIPS 2019, equation 4, with the eps of the Llama family.
"""

import numpy as np
from jaxtyping import Float


def normalise(
    x: Float[np.ndarray, "*batch D"], eps: float, variance: str = "two passes"
) -> tuple[Float[np.ndarray, "*batch D"], Float[np.ndarray, "*batch 1"]]:
    """(x - mean) / deviation, and the deviation sqrt(var + eps)."""
    width = x.shape[-1]
    mean = x.sum(axis=-1, keepdims=True) / width
    centred = x - mean
    if variance == "one pass":
        spread = np.maximum((x * x).sum(axis=-1, keepdims=True) / width - mean * mean, 0.0)
    else:
        spread = (centred * centred).sum(axis=-1, keepdims=True) / width
    deviation = np.sqrt(spread + eps)
    return centred / deviation, deviation


def layer_norm(
    x: Float[np.ndarray, "*batch D"],
    gamma: Float[np.ndarray, "D"],
    beta: Float[np.ndarray, "D"],
    eps: float,
    *,
    variance: str = "two passes",
) -> Float[np.ndarray, "*batch D"]:
    """Each row centred, scaled to unit deviation, then scaled by gamma and shifted by beta."""
    return normalise(x, eps, variance)[0] * gamma + beta


def layer_norm_backward(
    x: Float[np.ndarray, "*batch D"],
    gamma: Float[np.ndarray, "D"],
    eps: float,
    dy: Float[np.ndarray, "*batch D"],
    *,
    variance: str = "two passes",
) -> tuple[Float[np.ndarray, "*batch D"], Float[np.ndarray, "D"], Float[np.ndarray, "D"]]:
    """(dx, dgamma, dbeta): dx = (g - mean(g) - n * mean(g n)) / deviation with g = dy gamma, n the normalised x."""
    normalised, deviation = normalise(x, eps, variance)
    width = x.shape[-1]
    g = dy * gamma
    mean_g = g.sum(axis=-1, keepdims=True) / width
    mean_gn = (g * normalised).sum(axis=-1, keepdims=True) / width
    dx = (g - mean_g - normalised * mean_gn) / deviation
    rows = (-1, width)
    return dx, (dy * normalised).reshape(rows).sum(axis=0), dy.reshape(rows).sum(axis=0)


def rms_norm(
    x: Float[np.ndarray, "*batch D"], gamma: Float[np.ndarray, "D"], eps: float
) -> Float[np.ndarray, "*batch D"]:
    """Each row scaled to a mean square of 1, then by gamma; nothing is centred."""
    mean_square = (x * x).sum(axis=-1, keepdims=True) / x.shape[-1]
    return x / np.sqrt(mean_square + eps) * gamma
