"""The next token: the probabilities that temperature and filters leave, and draws from them.

The logits are divided by the temperature; then each filter in turn leaves tokens out, and the softmax is taken over
those that are left, before the next filter and at the end:

    top_k   the k largest logits; those equal to the k-th stay as well
    top_p   from the largest on, until what is kept has passed the probability p; the largest always stays
    min_p   those of at least min_p times the largest probability

Temperature 0 is greedy: the largest logit, the first of several. So is a top_k of 1. An option that is off (top_k 0,
top_p 1, min_p 0) leaves out nothing, whatever rounding makes of a sum of probabilities.

Sources: Fan et al., ACL 2018 (top-k); Holtzman et al., ICLR 2020 (top-p); Nguyen et al., 2024 (min-p).
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reference.arithmetic import ELEMENTARY, unit_roundoff
from reference.philox import counters, philox4x32, stream_key

OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""Plain sampling."""
ORDERS = {
    "top_k top_p min_p": ("top_k", "top_p", "min_p"),
    "min_p top_k top_p": ("min_p", "top_k", "top_p"),
}


def first_largest(logits: Float[np.ndarray, "V"]) -> int:
    """The id of the largest logit, the first of several."""
    return int(np.argmax(np.real(logits)))


def softmax_over(kept: Bool[np.ndarray, "V"], z: Float[np.ndarray, "V"]) -> Float[np.ndarray, "V"]:
    """Softmax over the kept entries, [V]; the others are exactly 0."""
    shifted = np.where(kept, z, 0.0)
    shifted = np.where(kept, shifted - np.max(np.where(kept, np.real(shifted), -np.inf)), 0.0)
    exponentials = np.where(kept, np.exp(shifted), 0.0)
    return exponentials / exponentials.sum()


def top_k_kept(
    z: Float[np.ndarray, "V"], kept: Bool[np.ndarray, "V"], k: int, ties: str
) -> Bool[np.ndarray, "V"]:
    """Which of the kept tokens are among the k largest; of equal ones at the end all, or the first (`ties`)."""
    if not 0 < k < int(kept.sum()):
        return kept
    order = by_size(z, kept)
    if ties == "first":
        return kept & np.isin(np.arange(len(z)), order[:k])
    return kept & (z >= z[order[k - 1]])


def top_p_kept(z: Float[np.ndarray, "V"], kept: Bool[np.ndarray, "V"], p: float) -> Bool[np.ndarray, "V"]:
    """Which of the kept tokens are in the nucleus: what stands before them has at most the probability p."""
    if p >= 1.0:
        return kept
    order = by_size(z, kept)
    before = np.concatenate([[0.0], np.cumsum(softmax_over(kept, z)[order])[:-1]])
    return kept & np.isin(np.arange(len(z)), order[before <= p])


def min_p_kept(z: Float[np.ndarray, "V"], kept: Bool[np.ndarray, "V"], p: float) -> Bool[np.ndarray, "V"]:
    """Which of the kept tokens have at least p times the largest probability."""
    if p <= 0.0:
        return kept
    probabilities = softmax_over(kept, z)
    return kept & (probabilities >= p * probabilities.max())


def by_size(z: Float[np.ndarray, "V"], kept: Bool[np.ndarray, "V"]) -> Int[np.ndarray, "N"]:
    """The ids of the kept tokens, largest logit first, the lower id first among equals."""
    order = np.argsort(-np.where(kept, z, 0.0), kind="stable")
    return order[kept[order]]


def filtered(
    z: Float[np.ndarray, "V"],
    *,
    top_k: int,
    top_p: float,
    min_p: float,
    ties: str = "kept, but of one",
    filters: str = "top_k top_p min_p",
) -> Bool[np.ndarray, "V"]:
    """Which tokens the filters leave, [V], of logits that are divided by the temperature already."""
    kept = z > -np.inf
    steps = {
        "top_k": lambda kept: top_k_kept(z, kept, top_k, ties),
        "top_p": lambda kept: top_p_kept(z, kept, top_p),
        "min_p": lambda kept: min_p_kept(z, kept, min_p),
    }
    for name in ORDERS[filters]:
        kept = steps[name](kept)
    return kept


def token_probabilities(
    logits: Float[np.ndarray, "V"],
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    ties: str = "kept, but of one",
    filters: str = "top_k top_p min_p",
) -> Float[np.ndarray, "V"]:
    """The probability of each token to be the next, [V]; ValueError for a negative temperature."""
    if temperature < 0.0:
        raise ValueError(f"a temperature of {temperature}")
    if temperature == 0.0 or (top_k == 1 and ties != "kept"):
        return (np.arange(len(logits)) == first_largest(logits)).astype(np.float64)
    values = np.asarray(logits.value if hasattr(logits, "value") else logits, np.float64)
    options: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    kept = filtered(values / temperature, ties=ties, filters=filters, **options)
    return softmax_over(kept, np.where(kept, logits, 0.0) / temperature)


def decided(logits: Float[np.ndarray, "V"], dtype: Any, **options: Any) -> bool:
    """Whether no filter's choice hangs on a rounding: moving top_p or min_p by what rounding may change is no change.

    A sum of V probabilities of relative error (V + 2 E + R) u each, R the range of the logits over the temperature and
    E that of an elementary function, differs from the exact one by at most as much; so does the threshold of min_p.
    """
    temperature = options["temperature"]
    if temperature == 0.0:
        return True
    z = np.asarray(logits, np.float64)
    spread = float(np.ptp(z[z > -np.inf])) / temperature
    slack = (2.0 * len(z) + 2.0 * ELEMENTARY + spread + 4.0) * unit_roundoff(dtype)
    chosen = [
        filtered(z / temperature, **moved(options, factor)).tobytes()
        for factor in (1.0, 1.0 - slack, 1.0 + slack)
    ]
    return len(set(chosen)) == 1


def moved(options: dict[str, Any], factor: float) -> dict[str, Any]:
    """The filters' options with top_p and min_p times a factor; one that is off stays off."""
    top_p = options["top_p"]
    rest = {name: options[name] for name in options if name != "temperature"}
    return rest | {
        "top_p": top_p if top_p >= 1.0 else top_p * factor,
        "min_p": min(options["min_p"] * factor, 1.0),
    }


def sample_token(logits: Float[np.ndarray, "V"], n: int, seed: int, **options: Any) -> Int[np.ndarray, "n"]:
    """n independent draws from `token_probabilities`, by inversion of uniform numbers of a stream of their own."""
    words = philox4x32(counters(np.arange(n), 0, 0), stream_key(seed, "sampling")).astype(np.uint64)
    bits = (words[:, 0] << np.uint64(21)) ^ (words[:, 1] >> np.uint64(11))  # 53 of them
    uniform = bits.astype(np.float64) * math.ldexp(1.0, -53)
    probabilities = np.asarray(token_probabilities(np.asarray(logits, np.float64), **options))
    candidates = np.flatnonzero(probabilities)
    edges = np.cumsum(probabilities[candidates])
    return candidates[np.minimum(np.searchsorted(edges, uniform, side="right"), len(candidates) - 1)]
