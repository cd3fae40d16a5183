"""n-gram baselines: add-alpha and interpolated Kneser-Ney, n = 1..7, over the same tokens as the model.

An n-gram is one integer: its tokens are the digits, V is the base. Dividing it by V gives its context, the remainder by
a power of V gives a shorter n-gram, and sorting counts them. Arrays hold every parameter of a grid (axis G) and every
position (axis P).
Source: Chen & Goodman 1999, section 2 (equations 2 and 20 to 24).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from impl.data.tokenizer import BOS
from impl.errors import UsageError

if TYPE_CHECKING:  # importing jaxtyping would lengthen the start-up
    from jaxtyping import Float, Int

    Codes = Int[np.ndarray, " P"]
    Probabilities = Float[np.ndarray, "G P"]

N_MAX = 7
ALPHAS = np.array([0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
DISCOUNTS = np.arange(1, 20) / 20
TUNE_EVERY = 5  # every fifth training cell, from the first, is held out to choose the parameter

Sequences = Sequence[Sequence[int]]


def encode_ngrams(sequences: Sequences, vocab_size: int) -> list[Codes]:
    """For k = 1..N_MAX the k-gram that ends at each predicted token; `<bos>` fills up what is before a sequence."""
    padded = [np.array([BOS] * (N_MAX - 1) + list(sequence[1:]), np.int64) for sequence in sequences]
    windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(tokens, N_MAX) for tokens in padded])
    place_values = vocab_size ** np.arange(N_MAX, dtype=np.int64)
    return [windows[:, N_MAX - k :] @ place_values[:k][::-1] for k in range(1, N_MAX + 1)]


def look_up(keys: Codes, values: Int[np.ndarray, " K"], codes: Codes) -> Codes:
    """values[i] where keys[i] == code, 0 where no key does; keys are sorted."""
    nearest = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
    return np.where(keys[nearest] == codes, values[nearest], 0)


@dataclass(frozen=True)
class Table:
    """Counts of k-grams, with the total and the number of different followers of their contexts."""

    vocab_size: int
    ngrams: Codes
    counts: Codes
    contexts: Codes
    totals: Codes
    types: Codes

    @classmethod
    def of(cls, codes: Codes, vocab_size: int) -> Self:
        """Count k-grams, each one integer."""
        ngrams, counts = np.unique(codes, return_counts=True)
        contexts, first, types = np.unique(ngrams // vocab_size, return_index=True, return_counts=True)
        return cls(vocab_size, ngrams, counts, contexts, np.add.reduceat(counts, first), types)

    def about(self, codes: Codes) -> tuple[Codes, Codes, Codes]:
        """Of each k-gram: its count, the total of its context, the number of different followers of its context."""
        context = codes // self.vocab_size
        return (
            look_up(self.ngrams, self.counts, codes),
            look_up(self.contexts, self.totals, context),
            look_up(self.contexts, self.types, context),
        )


class Counts:
    """Everything both estimators count in the training sequences, for all orders; index k - 1 is order k."""

    def __init__(self, sequences: Sequences, vocab_size: int) -> None:
        codes = encode_ngrams(sequences, vocab_size)
        self.vocab_size = vocab_size
        self.occurrences = [Table.of(codes[k - 1], vocab_size) for k in range(1, N_MAX + 1)]
        # A k-gram continues as many contexts as there are different (k+1)-grams that end in it.
        self.continuations = [
            Table.of(self.occurrences[k].ngrams % vocab_size**k, vocab_size) for k in range(1, N_MAX)
        ]

    def add_alpha(self, sequences: Sequences, alphas: Float[np.ndarray, " G"]) -> list[Probabilities]:
        """P(token) of every predicted token, for n = 1..N_MAX."""
        codes = encode_ngrams(sequences, self.vocab_size)
        alpha = alphas[:, np.newaxis]
        result = []
        for table, code in zip(self.occurrences, codes, strict=True):
            count, total, _ = table.about(code)
            result.append((count + alpha) / (total + alpha * self.vocab_size))
        return result

    def kneser_ney(self, sequences: Sequences, discounts: Float[np.ndarray, " G"]) -> list[Probabilities]:
        """P(token) of every predicted token, for n = 1..N_MAX; the orders below n are shared."""
        codes = encode_ngrams(sequences, self.vocab_size)
        discount = discounts[:, np.newaxis]
        lower = np.full((len(discounts), len(codes[0])), 1 / self.vocab_size)
        result = []
        for k in range(1, N_MAX + 1):
            result.append(_interpolate(self.occurrences[k - 1].about(codes[k - 1]), discount, lower))
            if k < N_MAX:
                lower = _interpolate(self.continuations[k - 1].about(codes[k - 1]), discount, lower)
        return result


def _interpolate(
    about: tuple[Codes, Codes, Codes], discount: Float[np.ndarray, "G 1"], lower: Probabilities
) -> Probabilities:
    """max(count - D, 0) / total + D types / total * lower; just `lower` after a context never seen."""
    count, total, types = about
    seen = np.maximum(total, 1)
    mixed = np.maximum(count - discount, 0) / seen + discount * types / seen * lower
    return np.where(total > 0, mixed, lower)


def baselines(train: Sequences, val: Sequences, vocab_size: int) -> list[dict[str, Any]]:
    """Fourteen tuned models on `val`: [{"kind", "n", "parameter", "val": {"ppl", "nll_sum", "tokens"}}].

    Training sequences come in pairs, one a direction of a cell. The parameter is chosen on cells held out of `train`;
    then all of `train` is counted.
    """
    if vocab_size**N_MAX > 2**63:
        raise UsageError(f"a {N_MAX}-gram over {vocab_size} tokens does not fit 64 bits")
    tune = [s for i, s in enumerate(train) if i // 2 % TUNE_EVERY == 0]
    rest = [s for i, s in enumerate(train) if i // 2 % TUNE_EVERY != 0]
    if not rest:
        raise UsageError("train has a single cell: nothing is left to count n-grams in")
    partial, full = Counts(rest, vocab_size), Counts(train, vocab_size)
    results = []
    for kind, grid in (("add_alpha", ALPHAS), ("kneser_ney", DISCOUNTS)):
        tuning = getattr(partial, kind)(tune, grid)
        best = [int(np.argmin(-np.log(p).sum(axis=1))) for p in tuning]
        for n, (i, p) in enumerate(zip(best, getattr(full, kind)(val, grid), strict=True), start=1):
            nll, tokens = float(-np.log(p[i]).sum()), p.shape[1]
            score = {"ppl": math.exp(nll / tokens), "nll_sum": nll, "tokens": tokens}
            results.append({"kind": kind, "n": n, "parameter": float(grid[i]), "val": score})
    return results


def strongest(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The baseline with the lowest perplexity: the one a model is compared with."""
    return min(results, key=lambda result: float(result["val"]["ppl"]))
