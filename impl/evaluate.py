"""Perplexity: exp of the token-mean negative log-likelihood over every predicted token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from impl.data.iterator import make_batch
from impl.model.minigpt import MiniGPT


@dataclass(frozen=True)
class Score:
    """Sum of negative log-likelihoods in nats, and the number of tokens it is over (eos yes, bos and pad no)."""

    nll_sum: float
    tokens: int

    @property
    def loss(self) -> float:
        """Mean nats a token."""
        return self.nll_sum / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the loss; infinity where a float64 cannot hold it."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    def as_dict(self) -> dict[str, Any]:
        exact = {"ppl": self.perplexity.hex(), "nll_sum": self.nll_sum.hex()}
        return {"ppl": self.perplexity, "nll_sum": self.nll_sum, "tokens": self.tokens, "hex": exact}


def evaluate(model: MiniGPT, sequences: Sequence[Sequence[int]], batch_size: int) -> Score:
    """Score sequences without dropout; leaves parameters, gradients and every random stream as they were."""
    batches = [make_batch(sequences[i : i + batch_size]) for i in range(0, len(sequences), batch_size)]
    nll = 0.0
    for batch in batches:
        nll = model.nll(batch, nll)
    return Score(nll, sum(batch.tokens for batch in batches))
