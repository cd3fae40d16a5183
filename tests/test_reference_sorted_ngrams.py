"""Counting by sorting gives the n-grams of ngram.py, and needs no table of V^2."""

import math
import resource

import numpy as np
import pytest

from fixtures.corpus.files import read_directory
from reference import ngram, sorted_ngrams, tokenizer
from reference.tokenizer import VOCAB_SIZE


@pytest.fixture(scope="module")
def few() -> dict[str, list[list[int]]]:
    splits = read_directory()
    bpe = tokenizer.train_on_rows(splits["train"])
    return {
        name: [ids for row in splits[name][:20] for ids in bpe.encode_row(row)] for name in ("train", "val")
    }


def test_all_fourteen_are_those_of_the_oracle(few):
    """The sequences of the corpus start with <bos>, which is then the token that is context alone."""
    expected = ngram.baselines(few["train"], few["val"])
    got = sorted_ngrams.baselines(few["train"], few["val"], VOCAB_SIZE)
    assert [(b.kind, b.n, b.parameter) for b in got] == [
        (b.model.kind, b.model.n, b.model.parameter) for b in expected
    ]
    for one, other in zip(got, expected, strict=True):
        assert one.tokens == other.tokens
        assert abs(one.nll_sum - other.nll_sum) <= ngram.nll_bound(one.n, one.nll_sum, one.tokens)


def test_bigram_of_a_text_without_a_beginning_worked_by_hand():
    """Windows 'a b a b', 'a c': after a come b, b and c; b is followed by a."""
    a, b, c = 0, 1, 2
    train, _ = sorted_ngrams.positions([[a, b, a, b], [a, c]])
    asked, _ = sorted_ngrams.positions([[a, b], [c, a]])
    found = sorted_ngrams.orders(train, asked, 4)
    assert sorted_ngrams.add_alpha(found, 2, 0.5, 4) == pytest.approx([(2 + 0.5) / (3 + 2), 0.5 / 2])
    # Different tokens before: nothing but the window's beginning or a token. b: after a; a: after b; c: after a.
    low = dict.fromkeys((a, b, c), (1 - 0.5) / 3 + 0.5 * 3 / 3 / 4)
    assert sorted_ngrams.kneser_ney(found, 2, 0.5, 4) == pytest.approx(
        [1.5 / 3 + 0.5 * 2 / 3 * low[b], low[a]]
    )


def test_what_stands_before_a_window_is_not_known():
    joined, apart = (sorted_ngrams.positions(windows)[0] for windows in ([[1, 2, 3, 4]], [[1, 2], [2, 3, 4]]))
    assert joined.past[-1].tolist() == [3, 2, 1, -1, -1, -1]
    assert apart.past[-1].tolist() == [3, 2, -1, -1, -1, -1]
    assert joined.tokens.tolist() == apart.tokens.tolist() == [2, 3, 4]


def test_a_large_vocabulary_costs_nothing():
    """A table of V^2 would be 200 GB here."""
    chance = np.random.default_rng(1)
    vocab = 150_000
    train = chance.integers(0, vocab, (60, 50)).tolist()
    best = sorted_ngrams.strongest(train, train[:3], vocab)
    assert 1 < best.perplexity < vocab
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000  # kB, of the whole test session


def test_probabilities_sum_to_one_over_the_vocabulary():
    chance = np.random.default_rng(2)
    vocab = 7
    train, _ = sorted_ngrams.positions(chance.integers(0, vocab, (12, 9)).tolist())
    history = chance.integers(0, vocab, 5).tolist()
    past = np.array([[*history[::-1], -1]] * vocab)
    found = sorted_ngrams.orders(train, sorted_ngrams.Positions(np.arange(vocab), past), vocab)
    for probability in (sorted_ngrams.add_alpha, sorted_ngrams.kneser_ney):
        for n in ngram.ORDERS:
            assert math.fsum(probability(found, n, 0.5, vocab)) == pytest.approx(1, abs=1e-12)


def test_too_little_text_is_an_error():
    with pytest.raises(ValueError, match="too little text"):
        sorted_ngrams.strongest([[1, 2, 3]], [[1, 2]], 5)
