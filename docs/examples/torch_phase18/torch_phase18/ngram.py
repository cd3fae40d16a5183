"""The n-gram models that a trained model has to beat: add-alpha and interpolated Kneser-Ney, n = 1 to 7.

Source: Chen, Goodman, "An empirical study of smoothing techniques for language modeling", 1999, equations 2, 20 to 24.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from torch_phase18.tokenizer import BOS, SIZE

ORDERS = range(1, 8)
ALPHAS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DISCOUNTS = tuple(i / 20 for i in range(1, 20))
TUNED_ON = 5  # every fifth training cell, from the first, chooses the parameter

Sequences = list[list[int]]


def grams(sequences: Sequences, n: int) -> Iterator[tuple[int, ...]]:
    """The n-gram that ends at each predicted token, filled up with <bos> on the left."""
    for ids in sequences:
        padded = (BOS,) * (n - 1) + tuple(ids[1:])
        yield from (padded[end - n : end] for end in range(n, len(padded) + 1))


class Table:
    """How often each n-gram is there, and of each context the total and the number of different followers."""

    def __init__(self, counted: Counter[tuple[int, ...]]) -> None:
        self.counts, self.totals = counted, defaultdict[tuple[int, ...], int](int)
        self.types = defaultdict[tuple[int, ...], int](int)
        for gram, count in counted.items():
            self.totals[gram[:-1]] += count
            self.types[gram[:-1]] += 1


class Counts:
    """Occurrences of each order, and below the highest the number of different tokens before an n-gram."""

    def __init__(self, sequences: Sequences) -> None:
        seen = {n: Counter(grams(sequences, n)) for n in ORDERS}
        self.occurrences = {n: Table(counted) for n, counted in seen.items()}
        self.continuations = {n: Table(Counter(g[1:] for g in seen[n + 1])) for n in ORDERS if n + 1 in seen}

    def add_alpha(self, gram: tuple[int, ...], alpha: float) -> float:
        """P of the last token after the others."""
        table = self.occurrences[len(gram)]
        return (table.counts[gram] + alpha) / (table.totals[gram[:-1]] + alpha * SIZE)

    def kneser_ney(self, gram: tuple[int, ...], discount: float) -> float:
        """The same; a context that was never seen leaves it to the shorter one."""
        p = 1.0 / SIZE
        for k in range(1, len(gram) + 1):
            table = (self.occurrences if k == len(gram) else self.continuations)[k]
            end = gram[-k:]
            if total := table.totals.get(end[:-1], 0):
                left = discount * table.types[end[:-1]] / total
                p = max(table.counts[end] - discount, 0.0) / total + left * p
        return p


def baselines(train: Sequences, val: Sequences) -> list[dict[str, Any]]:
    """Fourteen models, each with the parameter that is best on held-out training cells, scored on `val`."""
    held = [ids for i, ids in enumerate(train) if i // 2 % TUNED_ON == 0]
    rest = [ids for i, ids in enumerate(train) if i // 2 % TUNED_ON != 0]
    partial, full, results = Counts(rest), Counts(train), []
    for kind, grid in (("add_alpha", ALPHAS), ("kneser_ney", DISCOUNTS)):
        for n in ORDERS:
            seen = Counter(grams(held, n))
            best = min(grid, key=lambda x, n=n, seen=seen: _nll(getattr(partial, kind), seen, x))  # type: ignore[misc]
            nll, tokens = _nll(getattr(full, kind), scored := Counter(grams(val, n)), best), scored.total()
            score = {"ppl": math.exp(nll / tokens), "nll_sum": nll, "tokens": tokens}
            results.append({"kind": kind, "n": n, "parameter": best, "val": score})
    return results


def _nll(probability: Any, counted: Counter[tuple[int, ...]], parameter: float) -> float:
    """Sum of -log P in nats over n-grams, each as often as it is there."""
    return -math.fsum(count * math.log(probability(gram, parameter)) for gram, count in counted.items())
