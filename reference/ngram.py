"""n-gram language models: the baseline that a trained model has to beat.

Two estimators, n = 1..7, over the token sequences that the model is trained on.  c is a context of n-1 tokens, w a
token, c' is c without its first token, V the size of the vocabulary and N(.) a count of the training data.  A sequence
`<bos> s_1 ... s_m` predicts s_1 ... s_m; contexts are filled up on the left with `<bos>`.

Add-alpha (Lidstone; Chen and Goodman 1999, equation 2):

    P(w|c) = (N(c w) + alpha) / (N(c) + alpha V)

Interpolated Kneser-Ney (Kneser and Ney 1995; Chen and Goodman 1999, equations 20 to 24):

    P(w|c) = max(A(c w) - D, 0) / A(c) + D T(c) / A(c) P(w|c')        A(c) = sum of A(c w) over w
                                                                      T(c) = number of w with A(c w) > 0

A is N at the highest order.  Below it, A(c w) is the number of *different* tokens seen before c w: a token counts as
often as it follows something new, not as often as it occurs.  The chain ends, below the empty context, in the uniform
distribution 1/V; a context never seen hands over to c' entirely.  One discount D serves all orders.

alpha and D are tuned on training cells held out for that, and the counts are then taken from all training cells.

Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", Computer Speech and
Language 13, 359-394.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from reference.perplexity import perplexity
from reference.tokenizer import BOS, VOCAB_SIZE

ORDERS = range(1, 8)
ALPHAS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DISCOUNTS = tuple(i / 20 for i in range(1, 20))  # 0.05, 0.10, ..., 0.95
TUNING_CELL = 5  # of the training cells, in order, the first of every five is held out to tune on

Context = tuple[int, ...]
Counts = dict[Context, Counter[int]]  # context -> how often each token followed it
Sequences = Sequence[Sequence[int]]
Distribution = Float[np.ndarray, " V"]


def predictions(sequence: Sequence[int], n: int) -> Iterator[tuple[Context, int]]:
    """(context of n-1 tokens, token) for every predicted token of one sequence. ValueError if it lacks its <bos>."""
    if not sequence or sequence[0] != BOS:
        raise ValueError("a sequence starts with <bos>")
    padded = (BOS,) * (n - 1) + tuple(sequence[1:])
    for end in range(n - 1, len(padded)):
        yield padded[end - n + 1 : end], padded[end]


def ngram_counts(sequences: Sequences, n: int) -> Counts:
    """N: how often each token followed each context of n-1 tokens."""
    counts: Counts = defaultdict(Counter)
    for sequence in sequences:
        for context, token in predictions(sequence, n):
            counts[context][token] += 1
    return dict(counts)


def continuation_counts(higher: Mapping[Context, Counter[int]]) -> Counts:
    """A of the next lower order: before how many different tokens each shorter n-gram was seen."""
    counts: Counts = defaultdict(Counter)
    for context, followers in higher.items():
        for token in followers:
            counts[context[1:]][token] += 1
    return dict(counts)


@dataclass(frozen=True)
class AddAlpha:
    """Every n-gram counts as seen `parameter` (alpha) times more than it was.  Before `fit`: uniform."""

    n: int
    parameter: float
    vocab_size: int = VOCAB_SIZE
    counts: Counts = field(default_factory=dict, repr=False)

    kind: ClassVar[str] = "add_alpha"
    grid: ClassVar[tuple[float, ...]] = ALPHAS

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 < self.parameter < math.inf:
            raise ValueError(f"add-alpha needs n >= 1 and alpha > 0, got {self.n} and {self.parameter}")

    def fit(self, sequences: Sequences) -> AddAlpha:
        """The same model with the counts of these sequences. ValueError for one that does not start with <bos>."""
        return replace(self, counts=ngram_counts(sequences, self.n))

    def probability(self, token: int, context: Context) -> float:
        """P(token | context), context of n-1 tokens."""
        followers = self.counts.get(context, Counter())
        alpha = self.parameter
        return (followers[token] + alpha) / (followers.total() + alpha * self.vocab_size)

    def probabilities(self, context: Context) -> Distribution:
        """P(. | context) over the whole vocabulary."""
        return np.array([self.probability(token, context) for token in range(self.vocab_size)])


@dataclass(frozen=True)
class KneserNey:
    """Interpolated Kneser-Ney, `parameter` being the discount of every order.  Before `fit`: uniform."""

    n: int
    parameter: float
    vocab_size: int = VOCAB_SIZE
    orders: tuple[Counts, ...] = field(default=(), repr=False)  # A, from the empty context up to n-1 tokens

    kind: ClassVar[str] = "kneser_ney"
    grid: ClassVar[tuple[float, ...]] = DISCOUNTS

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 < self.parameter < 1:
            raise ValueError(f"Kneser-Ney needs n >= 1 and 0 < D < 1, got {self.n} and {self.parameter}")

    def fit(self, sequences: Sequences) -> KneserNey:
        """The same model with the counts of these sequences. ValueError for one that does not start with <bos>."""
        orders = [ngram_counts(sequences, self.n)]
        while len(orders) < self.n:
            orders.append(continuation_counts(orders[-1]))
        return replace(self, orders=tuple(reversed(orders)))

    def probability(self, token: int, context: Context) -> float:
        """P(token | context), context of n-1 tokens."""
        discount = self.parameter
        p = 1 / self.vocab_size
        for length, order in enumerate(self.orders):
            followers = order.get(context[len(context) - length :])
            if followers is None:  # a context never seen: the shorter one decides
                continue
            total, types = followers.total(), len(followers)
            p = max(followers[token] - discount, 0) / total + discount * types / total * p
        return p

    def probabilities(self, context: Context) -> Distribution:
        """P(. | context) over the whole vocabulary."""
        return np.array([self.probability(token, context) for token in range(self.vocab_size)])


Model = AddAlpha | KneserNey


def negative_log_likelihood(model: Model, sequences: Sequences) -> tuple[float, int]:
    """(sum of -log p over all predicted tokens, in nats; their number).  The sum is rounded once."""
    predicted = [p for sequence in sequences for p in predictions(sequence, model.n)]
    losses = {(c, token): -math.log(model.probability(token, c)) for c, token in set(predicted)}
    return math.fsum(losses[p] for p in predicted), len(predicted)


def tuning_split(sequences: Sequences) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """(sequences to count, sequences to tune on).  A cell is two sequences in a row, one a direction, never divided.

    ValueError for an odd number of sequences.
    """
    if len(sequences) % 2:
        raise ValueError("training sequences come in pairs, one a direction")
    tuned_on = {i for i in range(len(sequences)) if i // 2 % TUNING_CELL == 0}
    counted = [s for i, s in enumerate(sequences) if i not in tuned_on]
    return counted, [s for i, s in enumerate(sequences) if i in tuned_on]


def tune(model: Model, sequences: Sequences) -> Model:
    """The model with the best parameter of its grid (the smallest of equals), counts taken from all sequences."""
    counted, held_out = tuning_split(sequences)
    fitted = model.fit(counted)
    losses = {x: negative_log_likelihood(replace(fitted, parameter=x), held_out)[0] for x in model.grid}
    return replace(model, parameter=min(losses, key=losses.__getitem__)).fit(sequences)


@dataclass(frozen=True)
class Baseline:
    """One tuned n-gram model and its score on the validation split."""

    model: Model
    nll_sum: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """exp(nll_sum / tokens): nats per token, as perplexity.py has it."""
        return perplexity(self.nll_sum, self.tokens)


def baselines(train: Sequences, val: Sequences, vocab_size: int = VOCAB_SIZE) -> list[Baseline]:
    """All fourteen: both estimators, n = 1..7, each tuned on a part of `train`, scored on `val`."""
    models: list[Model] = [
        *(AddAlpha(n, ALPHAS[0], vocab_size) for n in ORDERS),
        *(KneserNey(n, DISCOUNTS[0], vocab_size) for n in ORDERS),
    ]
    tuned = [tune(model, train) for model in models]
    return [Baseline(model, *negative_log_likelihood(model, val)) for model in tuned]


def strongest(train: Sequences, val: Sequences, vocab_size: int = VOCAB_SIZE) -> Baseline:
    """The baseline with the lowest perplexity on `val`: the one that counts."""
    return min(baselines(train, val, vocab_size), key=lambda baseline: baseline.perplexity)


def nll_bound(n: int, nll_sum: float, tokens: int) -> float:
    """How far apart two correct double-precision sums of -log p may be, for either estimator.

    With u = 2^-53 and gamma_k = k u / (1 - k u): every term of p is positive, so relative errors do not grow in sums.
    One order costs at most 4 roundings (discount times types, by the total, times the lower p, the sum; subtraction and
    quotient are fewer), and 1/V one more: p is right to gamma_(4n+1), so -log p to 4n+2 times u, absolutely, plus one
    ulp of the logarithm (2u, relatively).  A sum of N terms in any order adds gamma_(N-1), relatively.  Two
    implementations may err in opposite directions, hence the factor 2.
    Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms", lemma 3.1 and section 4.2.
    """
    u = 2.0**-53
    k = tokens + 1
    return 2 * (tokens * (4 * n + 2) * u + (k * u / (1 - k * u)) * nll_sum)
