"""Batch, learning rate and decay for a run on more or fewer tokens than they were chosen for."""

import math

EXPONENT = 0.383
"""By which the batch grows with the tokens of a run (Zhang et al. 2024)."""


def scaled_settings(
    tokens: float, *, reference_tokens: float, reference_batch: int, lr: float, weight_decay: float
) -> dict[str, float]:
    """batch in tokens, the nearest power of two; lr by the square root of its growth; decay by that over the tokens'.

    `reference_batch`, `lr` and `weight_decay` are those of a run on `reference_tokens`.
    """
    wanted = reference_batch * (tokens / reference_tokens) ** EXPONENT
    batch = 2 ** round(math.log2(wanted))
    growth = math.sqrt(batch / reference_batch)
    decay = weight_decay * growth * (reference_tokens / tokens)
    return {"batch": batch, "lr": lr * growth, "weight_decay": decay}
