"""The n-gram baselines of ngram.py for any vocabulary and any amount of text: counted by sorting, with no table of V^2.

The formulas, the grids and the tuning are those of ngram.py, which says what each symbol is; here every predicted
position of the text is a row of an array. The contexts of length L are numbered by their number at length L-1 and the
token before it, so that the pairs (context, token) seen in training are the distinct numbers of one sorted array. That
takes memory and time in proportion to the text (7 N numbers, N log N steps), whatever V is.

A *window* is a piece of a document that a model is shown at once. Its first token is context alone; the others are
predicted, and what stands before the window is not known to the baseline, as it is not to the model.

Source: Chen and Goodman 1999, as in ngram.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reference.ngram import ALPHAS, DISCOUNTS, ORDERS, TUNING_CELL
from reference.perplexity import perplexity

LONGEST = max(ORDERS) - 1  # tokens of the longest context
NOTHING = -1  # stands before the first token of a window


@dataclass(frozen=True)
class Positions:
    """Every predicted token, and the tokens before it: `past[i, k]` is the one k + 1 before, NOTHING outside."""

    tokens: Int[np.ndarray, " N"]
    past: Int[np.ndarray, "N 6"]

    def part(self, chosen: np.ndarray) -> Positions:
        """The positions at which `chosen`, of shape [N], is true."""
        return Positions(self.tokens[chosen], self.past[chosen])


@dataclass(frozen=True)
class Order:
    """What was counted for the context of one length, at each position that is asked about; all of shape [N]."""

    followed: Float[np.ndarray, " N"]
    """N(c w): how often the token followed the context."""
    total: Float[np.ndarray, " N"]
    """N(c)."""
    types: Float[np.ndarray, " N"]
    """T(c): how many different tokens followed it."""
    new: Float[np.ndarray, " N"]
    """Before how many different tokens c w was seen."""
    new_total: Float[np.ndarray, " N"]
    """The sum of that over w."""


@dataclass(frozen=True)
class Baseline:
    """One tuned n-gram model and its score on the text that is asked about, in nats."""

    kind: str
    n: int
    parameter: float
    nll_sum: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """exp(nll_sum / tokens)."""
        return perplexity(self.nll_sum, self.tokens)

    def __str__(self) -> str:
        name = {"add_alpha": "add-alpha", "kneser_ney": "Kneser-Ney"}[self.kind]
        return f"{self.n}-gram {name}"


def positions(windows: Sequence[Sequence[int]]) -> tuple[Positions, Int[np.ndarray, " N"]]:
    """(the predicted positions of all windows, the number of the window of each, of shape [N])."""
    lengths = np.array([len(window) for window in windows], np.int64)
    tokens = np.fromiter((token for window in windows for token in window), np.int64, int(lengths.sum()))
    window = np.repeat(np.arange(len(windows)), lengths)
    place = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    past = np.full((len(tokens), LONGEST), NOTHING, np.int64)
    for k in range(LONGEST):
        known = place > k
        past[known, k] = tokens[np.flatnonzero(known) - k - 1]
    predicted = place > 0
    return Positions(tokens, past).part(predicted), window[predicted]


def _numbered(codes: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Equal codes get equal numbers, from 0 without a gap."""
    return np.unique(codes, return_inverse=True)[1].reshape(-1)


def orders(counted: Positions, asked: Positions, vocab_size: int) -> list[Order]:
    """What counting the one text says at every position of the other, for contexts of 0 to 6 tokens."""
    seen = len(counted.tokens)
    tokens = np.concatenate([counted.tokens, asked.tokens])
    past = np.concatenate([counted.past, asked.past])
    contexts = [np.zeros(len(tokens), np.int64)]
    for k in range(LONGEST):
        contexts.append(_numbered(contexts[-1] * (vocab_size + 1) + past[:, k] - NOTHING))
    pairs = [_numbered(context * vocab_size + tokens) for context in contexts]
    first = [
        np.unique(pair[:seen], return_index=True)[1] for pair in pairs
    ]  # one position for each pair seen

    def count(numbers: np.ndarray, which: np.ndarray | slice) -> np.ndarray:
        return np.bincount(numbers[which], minlength=int(numbers.max()) + 1)[numbers[seen:]].astype(float)

    found = []
    for length, (context, pair) in enumerate(zip(contexts, pairs, strict=True)):
        longer = first[min(length + 1, LONGEST)]  # of the longest context nothing longer is asked
        found.append(
            Order(
                followed=count(pair, slice(seen)),
                total=count(context, slice(seen)),
                types=count(context, first[length]),
                new=count(pair, longer),
                new_total=count(context, longer),
            )
        )
    return found


def add_alpha(found: Sequence[Order], n: int, alpha: float, vocab_size: int) -> Float[np.ndarray, " N"]:
    """P(w|c) = (N(c w) + alpha) / (N(c) + alpha V), at every position."""
    order = found[n - 1]
    return (order.followed + alpha) / (order.total + alpha * vocab_size)


def kneser_ney(found: Sequence[Order], n: int, discount: float, vocab_size: int) -> Float[np.ndarray, " N"]:
    """Interpolated Kneser-Ney at every position; a context never seen hands over to the shorter one."""
    p = np.full(len(found[0].total), 1 / vocab_size)
    for length, order in enumerate(found[:n]):
        highest = length == n - 1
        count, total = (order.followed, order.total) if highest else (order.new, order.new_total)
        known = total > 0
        some = np.where(known, total, 1.0)
        own = np.maximum(count - discount, 0) / some + discount * order.types / some * p
        p = np.where(known, own, p)
    return p


KINDS = {"add_alpha": (add_alpha, ALPHAS), "kneser_ney": (kneser_ney, DISCOUNTS)}


def baselines(
    train: Sequence[Sequence[int]], val: Sequence[Sequence[int]], vocab_size: int
) -> list[Baseline]:
    """All fourteen: both estimators, n = 1..7, each tuned on a part of the training windows, scored on `val`.

    Of every ten training windows the first two are tuned on, as ngram.tuning_split has it; the counts are then taken
    from all. ValueError if nothing is left to count or to tune on, nothing is predicted in `val`, or a token is none of
    the vocabulary.
    """
    if max(max(window, default=0) for window in [*train, *val, []]) >= vocab_size:
        raise ValueError(f"a token of the text is not below {vocab_size}, the size of the vocabulary")
    everything, window = positions(train)
    held_out = window // 2 % TUNING_CELL == 0
    asked, _ = positions(val)
    if not (held_out.any() and not held_out.all() and len(asked.tokens)):
        raise ValueError(f"too little text for an n-gram: {len(train)} training windows, {len(val)} others")
    tuning = orders(everything.part(~held_out), everything.part(held_out), vocab_size)
    final = orders(everything, asked, vocab_size)
    found = []
    for kind, (probability, grid) in KINDS.items():
        for n in ORDERS:
            losses = {x: _nll(probability(tuning, n, x, vocab_size)) for x in grid}
            best = min(losses, key=losses.__getitem__)
            nll = _nll(probability(final, n, best, vocab_size))
            found.append(Baseline(kind, n, best, nll, len(asked.tokens)))
    return found


def _nll(p: Float[np.ndarray, " N"]) -> float:
    return float(-np.log(p).sum())


def strongest(train: Sequence[Sequence[int]], val: Sequence[Sequence[int]], vocab_size: int) -> Baseline:
    """The baseline with the lowest perplexity on `val`: the one that counts."""
    return min(baselines(train, val, vocab_size), key=lambda baseline: baseline.perplexity)
