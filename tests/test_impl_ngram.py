"""The vectorised n-gram baselines agree with the oracle, model by model, within the derived bound."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.corpus.files import read_directory
from impl.errors import UsageError
from impl.report import ngram
from reference import ngram as oracle
from reference import tokenizer
from reference.perplexity import perplexity
from reference.tokenizer import BOS, EOS

V = 8
# Any token inside, <bos> too: what fills up a short context is then a token like any other.
SEQUENCES = st.lists(st.integers(0, V - 1), max_size=6).map(lambda body: [BOS, *body, EOS])
PAIRS = st.lists(st.tuples(SEQUENCES, SEQUENCES), min_size=2, max_size=8).map(
    lambda cells: [sequence for cell in cells for sequence in cell]
)


def assert_agree(train: list[list[int]], val: list[list[int]], vocab_size: int) -> None:
    counted, held_out = oracle.tuning_split(train)
    results = ngram.baselines(train, val, vocab_size)
    models = [
        model(n, 0.5, vocab_size) for model in (oracle.AddAlpha, oracle.KneserNey) for n in oracle.ORDERS
    ]
    assert [(r["kind"], r["n"]) for r in results] == [(m.kind, m.n) for m in models]
    for result, model in zip(results, models, strict=True):
        assert result["parameter"] in model.grid
        # Two parameters may tie but for rounding: the chosen one must be the best as far as rounding can tell.
        fitted = model.fit(counted)
        losses = {
            x: oracle.negative_log_likelihood(replace(fitted, parameter=x), held_out)[0] for x in model.grid
        }
        best = min(losses.values())
        tokens = sum(len(s) - 1 for s in held_out)
        assert losses[result["parameter"]] - best <= 2 * oracle.nll_bound(model.n, best, tokens)

        chosen = replace(model, parameter=result["parameter"]).fit(train)
        nll, tokens = oracle.negative_log_likelihood(chosen, val)
        assert result["val"]["tokens"] == tokens
        assert abs(result["val"]["nll_sum"] - nll) <= oracle.nll_bound(model.n, nll, tokens)
        assert result["val"]["ppl"] == perplexity(result["val"]["nll_sum"], tokens)


def test_agrees_with_the_oracle_on_the_corpus():
    splits = read_directory()
    bpe = tokenizer.train_on_rows(splits["train"])
    train, val = ([ids for row in splits[name] for ids in bpe.encode_row(row)] for name in ("train", "val"))
    assert_agree(train, val, tokenizer.VOCAB_SIZE)


@given(PAIRS, st.lists(SEQUENCES, min_size=1, max_size=5))
def test_agrees_with_the_oracle_on_any_data(train, val):
    assert_agree(train, val, V)


@given(PAIRS, st.lists(st.integers(0, V - 1), max_size=8))
def test_probabilities_sum_to_one_for_every_context(train, context):
    """One sequence for each token of the vocabulary, all with the same context before it."""
    counts = ngram.Counts(train, V)
    probes = [[BOS, *context, token] for token in range(V)]
    last = np.arange(1, V + 1) * (len(context) + 1) - 1
    for probabilities in (counts.add_alpha(probes, ngram.ALPHAS), counts.kneser_ney(probes, ngram.DISCOUNTS)):
        for n, p in enumerate(probabilities, start=1):
            assert (p > 0).all()
            # Each entry is right to 4n + 2 roundings, and summing V of them adds V - 1.
            assert (np.abs(p[:, last].sum(axis=1) - 1) <= (4 * n + 2 + V) * 2.0**-53).all()


def test_the_strongest_counts():
    scores = [3.0, 2.5, 4.0]
    results = [{"n": n, "val": {"ppl": ppl}} for n, ppl in enumerate(scores)]
    assert ngram.strongest(results)["n"] == 1


def test_data_that_cannot_be_counted_is_refused():
    with pytest.raises(UsageError, match="nothing is left to count"):
        ngram.baselines([[BOS, EOS], [BOS, EOS]], [[BOS, EOS]], V)
    with pytest.raises(UsageError, match="does not fit 64 bits"):
        ngram.baselines([[BOS, EOS]] * 8, [[BOS, EOS]], 1000)
