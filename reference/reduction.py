"""How the losses of an update become one number, and how much each of them weighs in its gradient.

An update has micro-batches i, with losses l_i[b, t] and masks m_i[b, t] of predicted tokens; n counts tokens:

    tokens          sum_i sum m l / sum_i n_i            the law: each predicted token weighs the same
    micro-batches   mean over i of (sum m l / n_i)       the same only if all n_i are equal
    rows            mean over the rows with a token of (sum_t m l / n_row)
    positions       sum_i sum m l / sum_i B_i T_i        padding counts
    sum             sum_i sum m l

A mean over nothing is 0. The weight of a token is the derivative of that number by its loss.

Source: "tokens" is the derivative of the log-likelihood of the window; transformers#34191 and torchtitan#2206 are about
loops that said so and computed another.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

REDUCTIONS = ("tokens", "micro-batches", "rows", "positions", "sum")


def divisors(masks: Sequence[Bool[np.ndarray, "B T"]], reduction: str) -> list[np.ndarray]:
    """What the loss of a token is divided by, for each micro-batch; it broadcasts to [B, T]."""
    rows = max(sum(int(mask.any(axis=1).sum()) for mask in masks), 1)
    tokens = max(sum(int(mask.sum()) for mask in masks), 1)
    divisor = {
        "tokens": lambda mask: tokens,
        "micro-batches": lambda mask: len(masks) * max(int(mask.sum()), 1),
        "rows": lambda mask: rows * np.maximum(mask.sum(axis=1, keepdims=True), 1),
        "positions": lambda mask: max(sum(other.size for other in masks), 1),
        "sum": lambda mask: 1,
    }[reduction]
    return [np.asarray(divisor(mask), dtype=np.float64) for mask in masks]


def accumulated_loss(
    losses: Sequence[Float[np.ndarray, "B T"]],
    masks: Sequence[Bool[np.ndarray, "B T"]],
    *,
    reduction: str = "tokens",
) -> tuple[Float[np.ndarray, ""], list[np.ndarray]]:
    """(the loss of the window, the weight of each token in it); what is not predicted has no influence."""
    # Selected before the product: an infinite loss of a token that is not predicted times 0 is NaN.
    selected = [np.where(mask, x, 0.0) for x, mask in zip(losses, masks, strict=True)]
    weights = [
        np.where(mask, (1.0 + 0.0 * x) / divisor, 0.0)
        for x, mask, divisor in zip(selected, masks, divisors(masks, reduction), strict=True)
    ]
    products = [(x * weight).reshape(-1) for x, weight in zip(selected, weights, strict=True)]
    return np.concatenate(products).sum(), weights
