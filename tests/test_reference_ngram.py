"""The n-gram baseline: distributions that sum to 1, worked cases, and the strongest one counting."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.corpus.files import read_directory
from reference import ngram, tokenizer
from reference.ngram import AddAlpha, KneserNey
from reference.perplexity import perplexity
from reference.tokenizer import BOS, EOS, VOCAB_SIZE

U = Fraction(1, 2**53)
A, B, C, D = 5, 6, 7, 3
V = 8
TWO = [[BOS, A, B, EOS], [BOS, A, C, EOS]]

SENTENCES = st.lists(
    st.lists(st.integers(2, V - 1), max_size=5).map(lambda body: [BOS, *body, EOS]), min_size=1, max_size=8
)
ORDERS = st.integers(1, 7)


def assert_rounds(got: float, exact: Fraction, n: int) -> None:
    """`got` is `exact` but for the roundings that reference.ngram.nll_bound counts: 4 an order and one for 1/V."""
    assert abs(Fraction(got) - exact) <= (4 * n + 2) * U * exact


@pytest.fixture(scope="module")
def committed() -> dict[str, list[list[int]]]:
    splits = read_directory()
    bpe = tokenizer.train_on_rows(splits["train"])
    return {name: [ids for row in rows for ids in bpe.encode_row(row)] for name, rows in splits.items()}


@pytest.fixture(scope="module")
def few(committed) -> dict[str, list[list[int]]]:
    """Twenty cells of each split, for what need not be measured on all."""
    return {name: sequences[:40] for name, sequences in committed.items()}


# ------------------------------------------------------------------------------------------- worked by hand


@pytest.mark.parametrize(
    ("context", "token", "by_hand"),
    [
        ((A,), B, Fraction(3, 2) / 6),  # N(a b) = 1, N(a) = 2: (1 + 1/2) / (2 + 8/2)
        ((A,), EOS, Fraction(1, 2) / 6),
        ((BOS,), A, Fraction(5, 2) / 6),
        ((B,), EOS, Fraction(3, 2) / 5),
        ((D,), A, Fraction(1, 8)),  # never seen: uniform
    ],
)
def test_add_alpha_bigram_worked_by_hand(context, token, by_hand):
    """Training data: a b eos, a c eos; alpha = 1/2; 8 tokens."""
    assert_rounds(AddAlpha(2, 0.5, V).fit(TWO).probability(token, context), by_hand, n=1)


@pytest.mark.parametrize(
    ("n", "context", "token", "by_hand"),
    [
        # n = 1 counts occurrences: a 2, b 1, c 1, eos 2, of 6; 4 types: (2 - 1/2)/6 + (4/2)/6 * 1/8
        (1, (), A, Fraction(3, 12) + Fraction(1, 24)),
        (1, (), D, Fraction(1, 24)),
        # Below the bigrams the unigram counts what comes before: a 1, b 1, c 1, eos 2 (b and c), of 5; 4 types.
        # P1(a) = (1 - 1/2)/5 + (4/2)/5 * 1/8 = 3/20, P1(eos) = (2 - 1/2)/5 + 1/20 = 7/20, P1(d) = 1/20.
        (2, (A,), B, Fraction(1, 4) + Fraction(1, 2) * Fraction(3, 20)),
        (2, (A,), EOS, Fraction(1, 2) * Fraction(7, 20)),
        (2, (BOS,), A, Fraction(3, 4) + Fraction(1, 4) * Fraction(3, 20)),
        (2, (B,), EOS, Fraction(1, 2) + Fraction(1, 2) * Fraction(7, 20)),
        (2, (D,), EOS, Fraction(7, 20)),  # a context never seen: P1
        # Under the trigrams the bigram <bos> a, seen twice, counts once: P2(a|bos) = 1/2 + 1/2 * 3/20 = 23/40.
        (3, (BOS, BOS), A, Fraction(3, 4) + Fraction(1, 4) * Fraction(23, 40)),
        (3, (BOS, A), B, Fraction(1, 4) + Fraction(1, 2) * Fraction(13, 40)),
        (3, (D, A), B, Fraction(13, 40)),
    ],
)
def test_kneser_ney_worked_by_hand(n, context, token, by_hand):
    """Training data: a b eos, a c eos; D = 1/2; 8 tokens."""
    assert_rounds(KneserNey(n, 0.5, V).fit(TWO).probability(token, context), by_hand, n)


def test_loss_and_perplexity_worked_by_hand():
    """The bigram above on a b eos: 63/80 * 13/40 * 27/40."""
    nll, tokens = ngram.negative_log_likelihood(KneserNey(2, 0.5, V).fit(TWO), [[BOS, A, B, EOS]])
    by_hand = -math.log(63 / 80 * 13 / 40 * 27 / 40)
    assert tokens == 3
    assert abs(nll - by_hand) <= ngram.nll_bound(2, by_hand, tokens)


# ------------------------------------------------------------------------------------------ for any training data


@given(SENTENCES, ORDERS, st.sampled_from(ngram.ALPHAS), st.sampled_from(ngram.DISCOUNTS), st.data())
def test_probabilities_sum_to_one_for_every_context(sequences, n, alpha, discount, data):
    unseen = tuple(data.draw(st.lists(st.integers(0, V - 1), min_size=n - 1, max_size=n - 1)))
    contexts = {context for sequence in sequences for context, _ in ngram.predictions(sequence, n)} | {unseen}
    for model in (AddAlpha(n, alpha, V).fit(sequences), KneserNey(n, discount, V).fit(sequences)):
        for context in contexts:
            p = model.probabilities(context)
            assert p.shape == (V,)
            assert (p > 0).all()
            assert abs(sum(map(Fraction, p)) - 1) <= (4 * n + 2) * U


def exact_kneser_ney(sequences, n: int, discount: Fraction, token: int, context: tuple[int, ...]) -> Fraction:
    """The definition over lists of n-grams, in rational numbers: slow, and sharing nothing with the oracle."""

    def ngrams(k: int) -> list[tuple[int, ...]]:
        padded = [[BOS] * (n - 1) + sequence[1:] for sequence in sequences]
        return [tuple(s[i - k + 1 : i + 1]) for s in padded for i in range(n - 1, len(s))]

    def p(context: tuple[int, ...]) -> Fraction:
        k = len(context) + 1
        lower = p(context[1:]) if context else Fraction(1, V)
        grams = ngrams(n) if k == n else [gram[1:] for gram in set(ngrams(k + 1))]
        followers = [gram[-1] for gram in grams if gram[:-1] == context]
        if not followers:
            return lower
        discounted = max(followers.count(token) - discount, Fraction(0))
        return (discounted + discount * len(set(followers)) * lower) / len(followers)

    return p(context)


@given(SENTENCES, st.integers(1, 4), st.sampled_from(ngram.DISCOUNTS), st.integers(0, V - 1), st.data())
def test_kneser_ney_is_its_definition(sequences, n, discount, token, data):
    context, _ = data.draw(st.sampled_from([g for s in sequences for g in ngram.predictions(s, n)]))
    exact = exact_kneser_ney(sequences, n, Fraction(discount), token, context)
    assert_rounds(KneserNey(n, discount, V).fit(sequences).probability(token, context), exact, n)


@given(SENTENCES, ORDERS)
def test_continuation_counts_have_one_entry_a_type(sequences, n):
    """The counts of order n, summed, are the number of different n-grams of order n + 1."""
    higher = ngram.ngram_counts(sequences, n + 1)
    total = sum(followers.total() for followers in ngram.continuation_counts(higher).values())
    assert total == sum(len(followers) for followers in higher.values())


@given(ORDERS, st.integers(2, 100))
def test_before_any_data_every_token_is_as_likely(n, vocab_size):
    for model in (AddAlpha(n, 0.1, vocab_size), KneserNey(n, 0.5, vocab_size)):
        assert model.probabilities((BOS,) * (n - 1)) == pytest.approx(1 / vocab_size, rel=4 * 2.0**-53, abs=0)


@pytest.mark.parametrize("parameter", [0.0, -1.0, math.inf, math.nan])
def test_a_parameter_outside_its_range_is_refused(parameter: float):
    with pytest.raises(ValueError, match="alpha > 0"):
        AddAlpha(2, parameter)
    with pytest.raises(ValueError, match="0 < D < 1"):
        KneserNey(2, parameter)


def test_contexts_are_filled_up_with_bos():
    assert list(ngram.predictions([BOS, A, EOS], 3)) == [((BOS, BOS), A), ((BOS, A), EOS)]
    with pytest.raises(ValueError, match="starts with <bos>"):
        list(ngram.predictions([A, EOS], 3))


# -------------------------------------------------------------------------------------------------- tuning


def test_tuning_keeps_both_directions_of_a_cell_together():
    pairs = [[BOS, cell, direction, EOS] for cell in range(5, 17) for direction in (3, 4)]
    counted, held_out = ngram.tuning_split(pairs)
    assert {s[1] for s in held_out} == {5, 10, 15}
    assert Counter(s[1] for s in counted) == {cell: 2 for cell in range(5, 17) if cell not in (5, 10, 15)}
    with pytest.raises(ValueError, match="in pairs"):
        ngram.tuning_split(pairs[:-1])


def test_tuning_never_looks_at_val(few):
    """Another validation split, the same models."""
    one, other = ngram.baselines(few["train"], few["val"]), ngram.baselines(few["train"], few["test"])
    assert [b.model for b in one] == [b.model for b in other]
    assert [b.nll_sum for b in one] != [b.nll_sum for b in other]


def test_tuned_parameter_is_the_best_of_its_grid(committed):
    counted, held_out = ngram.tuning_split(committed["train"])
    tuned = ngram.tune(KneserNey(3, 0.5), committed["train"])
    losses = {
        discount: ngram.negative_log_likelihood(KneserNey(3, discount).fit(counted), held_out)[0]
        for discount in KneserNey.grid
    }
    assert losses[tuned.parameter] == min(losses.values())
    assert tuned == KneserNey(3, tuned.parameter).fit(committed["train"])


def test_the_strongest_of_fourteen_counts(few):
    all_of_them = ngram.baselines(few["train"], few["val"])
    assert [(b.model.kind, b.model.n) for b in all_of_them] == [
        (kind, n) for kind in ("add_alpha", "kneser_ney") for n in range(1, 8)
    ]
    assert {b.tokens for b in all_of_them} == {sum(len(s) - 1 for s in few["val"])}
    strongest = ngram.strongest(few["train"], few["val"])
    assert strongest.perplexity == min(b.perplexity for b in all_of_them)


def test_an_untuned_trigram_would_be_a_lower_bar(committed):
    trigram = AddAlpha(3, 0.01).fit(committed["train"])
    tuned = ngram.tune(KneserNey(4, 0.5), committed["train"])
    easy, tokens = ngram.negative_log_likelihood(trigram, committed["val"])
    hard, _ = ngram.negative_log_likelihood(tuned, committed["val"])
    assert perplexity(hard, tokens) < perplexity(easy, tokens)


# ---------------------------------------------------------------------------------------------- perplexity


@given(st.integers(1, 10**6))
def test_uniform_predictions_have_perplexity_v(tokens: int):
    """exp((N log V) / N): 4 roundings and two elementary functions of at most one ulp, at log V < 5."""
    got = perplexity(tokens * math.log(VOCAB_SIZE), tokens)
    assert abs(got - VOCAB_SIZE) <= 20 * 2.0**-53 * VOCAB_SIZE


def test_certain_predictions_have_perplexity_one():
    assert perplexity(0.0, 7) == 1.0


def test_perplexity_beyond_the_largest_double_is_infinite():
    assert perplexity(1e6, 1) == math.inf
    assert perplexity(math.inf, 3) == math.inf


@pytest.mark.parametrize(("nll", "tokens"), [(1.0, 0), (1.0, -1), (-0.5, 3), (math.nan, 3)])
def test_what_is_no_perplexity_is_refused(nll: float, tokens: int):
    with pytest.raises(ValueError, match=r"perplexity needs|never"):
        perplexity(nll, tokens)


def test_perplexity_counts_tokens_not_sequences():
    """Two sequences of 1 and 3 tokens at 1 and 0 nats: exp(1/4), not exp of the mean 1/2 of the two means."""
    assert perplexity(np.array([1.0, 0.0, 0.0, 0.0]).sum(), 4) == math.exp(0.25)
