"""Perplexity, recomputed from nothing but weights and cells: own tokenizer, own batches, the oracle's forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fixtures.corpus.conjugation import Row
from gates.errors import GateError
from reference import bounds, loss, model, ngram, tokenizer
from reference.data import make_batch
from reference.perplexity import perplexity

CONFIG = model.DEFAULT_CONFIG
SAMPLE = 48  # sequences that a bound on a sum is simulated on; for all of them it is scaled up
DRAWS = 2  # of each simulation, of either kind: sums over a thousand tokens have much the same error in every draw
Weights = Mapping[str, np.ndarray]
Sequences = list[list[int]]


@dataclass(frozen=True)
class Score:
    """Sum of -log p in nats over `tokens` predicted tokens; `bound` is how far a correct sum may be from it."""

    nll_sum: float
    tokens: int
    bound: float = 0.0

    @property
    def perplexity(self) -> float:
        return perplexity(self.nll_sum, self.tokens)


class ReferenceScorer:
    """Scores models on cells by the oracles, with a tokenizer learned from the training cells it is given."""

    def __init__(self, train: Sequence[Row]) -> None:
        self.tokenizer = tokenizer.train_on_rows(train)
        self.train = self.sequences(train)

    def sequences(self, rows: Sequence[Row]) -> Sequences:
        """Both directions of each cell, in order."""
        return [ids for row in rows for ids in self.tokenizer.encode_row(row)]

    @cached_property
    def _ngrams(self) -> list[ngram.Model]:
        """All fourteen n-gram models, learned and tuned on the training cells. (What they score here is not used.)"""
        return [baseline.model for baseline in ngram.baselines(self.train, self.train[:2])]

    def baselines(self, rows: Sequence[Row]) -> list[ngram.Baseline]:
        """Every n-gram model's score of these cells."""
        sequences = self.sequences(rows)
        return [ngram.Baseline(m, *ngram.negative_log_likelihood(m, sequences)) for m in self._ngrams]

    def strongest(self, rows: Sequence[Row]) -> ngram.Baseline:
        """The n-gram model that does best on these cells."""
        return min(self.baselines(rows), key=lambda baseline: baseline.perplexity)

    def score(self, weights: Weights, rows: Sequence[Row], dtype: Any = None) -> Score:
        """The oracle's score of the cells. With a dtype, also the bound for a subject that computes in it.

        The bound is simulated on every n-th sequence and multiplied by n: errors common to all tokens add up like
        that, independent ones less.
        """
        sequences = self.sequences(rows)
        params = as_float64(weights)
        tokens, target, real, key_mask = make_batch(sequences)
        total = float(nll_sum(params, tokens, target, real, key_mask))
        if dtype is None:
            return Score(total, int(real.sum()))
        every = -(-len(sequences) // SAMPLE)
        sample = [part[::every] for part in (tokens, target, real, key_mask)]
        bounded = bounds.probable(nll_sum, params, *sample, dtype=dtype, draws=DRAWS)
        return Score(total, int(real.sum()), every * float(bounded.bound))


def nll_sum(params: Any, tokens: Any, target: Any, real: Any, key_mask: Any) -> Any:
    """Sum of -log p over the real positions, by the oracles."""
    nll = loss.token_nll(model.forward(params, tokens, key_mask, CONFIG), target)
    return np.where(real, nll, 0.0).sum()


def as_float64(weights: Weights) -> dict[str, np.ndarray]:
    """The weights of MiniGPT, widened. GateError if a tensor is missing, has another shape or is not finite."""
    found = {}
    for name, shape in model.parameter_shapes(CONFIG).items():
        if name not in weights:
            raise GateError(f"model file: tensor {name} is missing")
        if weights[name].shape != shape or not np.isfinite(weights[name]).all():
            raise GateError(f"model file: tensor {name} is not {list(shape)} finite numbers")
        found[name] = weights[name].astype(np.float64)
    return found


def uniform_weights() -> dict[str, np.ndarray]:
    """Weights whose logits are all zero: the embedding, which is the head, is zero, and so is every shift."""
    return {name: np.zeros(shape) for name, shape in model.parameter_shapes(CONFIG).items()}


@dataclass(frozen=True)
class Contest:
    """A model against the strongest n-gram on cells that neither was trained on."""

    score: Score
    baseline: ngram.Baseline

    @cached_property
    def ratio(self) -> float:
        return self.score.perplexity / self.baseline.perplexity

    def __str__(self) -> str:
        kind = {"add_alpha": "add-alpha", "kneser_ney": "Kneser-Ney"}[self.baseline.model.kind]
        ours, theirs = self.score.perplexity, self.baseline.perplexity
        return f"{ours:.3f} against {theirs:.3f} of {self.baseline.model.n}-gram {kind}, {self.score.tokens} tokens"


def contest(scorer: ReferenceScorer, weights: Weights, rows: Sequence[Row]) -> Contest:
    """Both perplexities on the cells."""
    return Contest(scorer.score(weights, rows), scorer.strongest(rows))
