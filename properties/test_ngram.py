"""The n-gram baselines that a model must beat: their scores, and how their parameters are tuned."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from properties.assertions import holds, within
from properties.checks import checks
from reference import ngram
from reference.bounds import Bounded
from reference.tokenizer import BOS, EOS

VOCAB = 8
# <bos> also occurs inside sequences, so that the padding of a short context is not told apart by its token.
sequences = st.lists(st.integers(0, VOCAB - 1), max_size=6).map(lambda body: [BOS, *body, EOS])
cells = st.lists(st.tuples(sequences, sequences), min_size=2, max_size=8).map(
    lambda pairs: [sequence for pair in pairs for sequence in pair]
)


def models():
    """The fourteen baselines in the order of the protocol, not fitted."""
    return [model(n, 0.5, VOCAB) for model in (ngram.AddAlpha, ngram.KneserNey) for n in ngram.ORDERS]


@checks("NGRAM-01", train=cells, val=st.lists(sequences, min_size=1, max_size=5))
def test_every_baseline_has_the_score_of_its_formula(subject, train, val):
    """Each score is recomputed with the parameter that the subject reports."""
    results = subject.ngram_baselines(train, val, VOCAB)
    got, expected = [(r["kind"], r["n"]) for r in results], [(m.kind, m.n) for m in models()]
    holds("NGRAM-01", got == expected, f"got the baselines {got}, expected {expected}")
    for result, model in zip(results, models(), strict=True):
        which = f"{model.kind} of order {model.n}"
        known = result["parameter"] in model.grid
        holds("NGRAM-01", known, f"{which} has parameter {result['parameter']}, which is not in its grid")
        fitted = replace(model, parameter=result["parameter"]).fit(train)
        nll, tokens = ngram.negative_log_likelihood(fitted, val)
        found = f"{which}: {result['tokens']} tokens instead of {tokens}"
        holds("NGRAM-01", result["tokens"] == tokens, found)
        bound = Bounded(np.array(nll), np.array(ngram.nll_bound(model.n, nll, tokens)))
        within("NGRAM-01", result["nll_sum"], bound, float)


@checks("NGRAM-02", train=cells, val=st.lists(sequences, min_size=1, max_size=5))
def test_each_is_tuned_on_a_part_of_the_training_data(subject, train, val):
    """The reported parameter is the best on the held-out part of the training data, within the bound of two losses."""
    counted, held_out = ngram.tuning_split(train)
    for result, model in zip(subject.ngram_baselines(train, val, VOCAB), models(), strict=True):
        fitted = model.fit(counted)
        losses = {
            x: ngram.negative_log_likelihood(replace(fitted, parameter=x), held_out)[0] for x in model.grid
        }
        best, tokens = min(losses.values()), sum(len(s) - 1 for s in held_out)
        above = losses.get(result["parameter"], float("inf")) - best
        found = f"{model.kind} of order {model.n} took {result['parameter']}, which is {above:.3g} nats above the best"
        holds("NGRAM-02", above <= 2.0 * ngram.nll_bound(model.n, best, tokens), found)
