"""Perplexity: how many equally likely tokens the model hesitates between, on average.

    perplexity = exp(nll_sum / tokens)

`nll_sum` is the sum of -log p(token | context) in nats over all predicted tokens, `<eos>` included, `<bos>` and
`<pad>` not; `tokens` is their number.  A mean of per-sequence means would weigh short sequences more.

Source: Jelinek, Mercer, Bahl and Baker 1977, "Perplexity: a measure of the difficulty of speech recognition tasks".
"""

from __future__ import annotations

import math


def perplexity(nll_sum: float, tokens: int) -> float:
    """exp(nll_sum / tokens), infinite when that is beyond the largest double.

    ValueError for no tokens (a mean of nothing), and for a negative or NaN sum: neither comes from probabilities.
    """
    if tokens <= 0:
        raise ValueError(f"perplexity needs at least one predicted token, got {tokens}")
    if not nll_sum >= 0:
        raise ValueError(f"a sum of -log p is never {nll_sum}")
    try:
        return math.exp(nll_sum / tokens)
    except OverflowError:
        return math.inf
