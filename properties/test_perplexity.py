"""Perplexity from a sum of negative log-likelihoods."""

import math

import numpy as np
from hypothesis import strategies as st

from properties.assertions import agrees
from properties.checks import checks


def formula(nll_sum, tokens):
    """Perplexity of a sum of negative log-likelihoods in nats."""
    return np.exp(nll_sum / tokens)


@checks("PPL-01", nll=st.floats(0.0, 8.0), tokens=st.integers(1, 10**6))
def test_perplexity_is_exp_of_the_token_mean(subject, nll, tokens):
    total = nll * tokens
    agrees("PPL-01", subject.perplexity(total, tokens), formula, total, tokens, dtype=np.float64)


@checks("PPL-01", vocab=st.integers(2, 50_000), tokens=st.integers(1, 10**6))
def test_a_uniform_model_has_the_size_of_its_vocabulary(subject, vocab, tokens):
    """Within the bound of exp(n log V / n), every operation of which may round."""
    total = tokens * math.log(vocab)
    got = float(subject.perplexity(total, tokens))
    agrees("PPL-01", got, formula, total, tokens, dtype=np.float64)

    def uniform(v, n):
        return np.exp(np.log(v) * n / n)

    agrees("PPL-01", got, uniform, float(vocab), float(tokens), dtype=np.float64)
