"""Batch, learning rate and decay that follow the number of tokens a run is trained on.

    B = 2^round(log2(B0 (D / D0)^0.383))        lr = lr0 sqrt(B / B0)        decay = decay0 sqrt(B / B0) D0 / D

D tokens of the run, B0 tokens of a batch, lr0 and decay0 right for D0. The batch is a power of two; the rate follows
the rounded batch, not the number before it was rounded. At the reference, with B0 a power of two, nothing changes.
Source: Zhang et al., "How does critical batch size scale in pre-training?", 2024 (the exponent); Malladi et al., 2022
(the square root); Wang and Aitchison, "How to set AdamW's weight decay", 2024; nanochat's base_train.
"""

import math

EXPONENT = 0.383


def scaled_settings(
    tokens: float, *, reference_tokens: float, reference_batch: int, lr: float, weight_decay: float
) -> dict[str, float]:
    """batch (tokens of an update), lr and weight_decay for a run of so many tokens."""
    ratio = tokens / reference_tokens
    batch = 2 ** round(math.log2(reference_batch) + EXPONENT * math.log2(ratio))
    factor = math.sqrt(batch / reference_batch)
    return {"batch": batch, "lr": lr * factor, "weight_decay": weight_decay * factor / ratio}
