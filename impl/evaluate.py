"""Perplexity: exp of the token-mean negative log-likelihood over every predicted token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from impl.data.iterator import Batch, make_batch
from impl.model.language_model import LanguageModel


@dataclass(frozen=True)
class Score:
    """A sum of negative log-likelihoods in nats, and the number of predicted tokens (eos included, bos and pad not)."""

    nll_sum: float
    tokens: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nll_sum / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the loss; infinity if that overflows a float64."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `hex` has the exact floats."""
        exact = {"ppl": self.perplexity.hex(), "nll_sum": self.nll_sum.hex()}
        return {"ppl": self.perplexity, "nll_sum": self.nll_sum, "tokens": self.tokens, "hex": exact}


def evaluate(model: LanguageModel, sequences: Sequence[Sequence[int]], batch_size: int) -> Score:
    """Score sequences without dropout; changes no parameter, gradient or random stream."""
    return score(
        model, [make_batch(sequences[i : i + batch_size]) for i in range(0, len(sequences), batch_size)]
    )


def score(model: LanguageModel, batches: Sequence[Batch]) -> Score:
    """Score batches without dropout."""
    nll = 0.0
    for batch in batches:
        nll = model.nll(batch, nll)
    return Score(nll, sum(batch.tokens for batch in batches))


def within_budget(sequences: Sequence[Sequence[int]], budget: int) -> Sequence[Sequence[int]]:
    """The sequences from the first on whose predicted tokens fit into a budget, at least one; all for a budget of 0."""
    read = 0
    for number, sequence in enumerate(sequences):
        read += len(sequence) - 1
        if budget and number and read > budget:
            return sequences[:number]
    return sequences
