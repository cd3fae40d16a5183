"""The next token: temperature, top-k, top-p, min-p, and draws from what they leave.

Top-k keeps the tokens that are as likely as the k-th, but a k of 1 is greedy; each filter sees the probabilities that
the one before it left. Probabilities are computed in double precision, with sums in order. Draws are a function of
(seed, number of the draw), from a stream of their own: no sample moves the stream of the dropout masks or of the data.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from impl.kernels.elementwise import sum_in_order
from impl.kernels.math_functions import exp
from impl.rng import stream_key, uniform_bits

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults turn every filter off."""

    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


def token_probabilities(
    logits: Array, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Array:
    """The probability of each token to be the next, [V], in the dtype of the logits [V].

    ValueError for a negative temperature.
    """
    if temperature < 0.0:
        raise ValueError(f"a temperature of {temperature}")
    if temperature == 0.0 or top_k == 1:
        return (np.arange(len(logits)) == np.argmax(logits)).astype(logits.dtype)
    z = logits.astype(np.float64) / temperature
    kept = z > -np.inf
    order = np.argsort(-z, kind="stable")  # the lower id first among equals
    if 0 < top_k < len(z):
        kept &= z >= z[order[top_k - 1]]
    if top_p < 1.0:
        sums = np.cumsum(_softmax(z, kept)[order])
        kept[order[1:][sums[:-1] > top_p]] = False
    if min_p > 0.0:
        p = _softmax(z, kept)
        kept &= p >= min_p * p.max()
    return _softmax(z, kept).astype(logits.dtype)


def _softmax(z: Array, kept: Array) -> Array:
    """Softmax [V] over the kept entries of z [V], float64; the others are 0."""
    exponentials = np.array([exp(x) for x in np.where(kept, z, -np.inf) - z[kept].max()])
    return exponentials / sum_in_order(0.0, exponentials)


def sample_token(logits: Array, n: int, seed: int, **options: Any) -> Array:
    """n independent draws, ids int64 [n], by inversion of uniform numbers of 53 bits."""
    words = uniform_bits(stream_key(seed, "sampling"), n, 0, 0, 0).astype(np.uint64)
    uniform = ((words[:, 0] << np.uint64(21)) ^ (words[:, 1] >> np.uint64(11))).astype(np.float64) * 2.0**-53
    probabilities = token_probabilities(logits.astype(np.float64), **options)
    candidates = np.flatnonzero(probabilities)
    edges = np.cumsum(probabilities[candidates])
    return candidates[np.minimum(np.searchsorted(edges, uniform, side="right"), len(candidates) - 1)]
