"""Perplexity from a sum of negative log-likelihoods."""

import math

import numpy as np
from hypothesis import strategies as st

from properties.assertions import agrees, holds
from properties.checks import checks


def formula(nll_sum, tokens):
    """Perplexity of a sum of negative log-likelihoods in nats."""
    return np.exp(nll_sum / tokens)


EXTREMES = [
    {"nll": nll, "tokens": tokens} for nll in (0.0, 20.0, 88.8, 700.0) for tokens in (1, 2**24 + 1, 2**31 + 1)
]
"""A perplexity of 1, and beyond the largest float32; counts beyond the integers of float32 and of 32 bits."""


@checks("PPL-01", nll=st.floats(0.0, 8.0), tokens=st.integers(1, 10**6), always=EXTREMES)
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


@checks("PPL-01", floor=3, nll=st.sampled_from([710.0, 1e4, 1e300]), tokens=st.integers(1, 1000))
def test_what_is_beyond_the_largest_double_is_infinite(subject, nll, tokens):
    got = subject.perplexity(nll * tokens, tokens)
    holds("PPL-01", float(got) == math.inf, f"got {got} for a mean of {nll} nats, expected inf")
