"""The next token: what temperature and filters leave, draws from it, and greedy decoding."""

import functools
import random
import sys
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from fixtures.evaluation_strategies import (
    distinct_logits,
    filtered_logits,
    temperatures,
    tied_logits,
)
from fixtures.strategies import model_cases, run_seeds
from honestloop.guard import Misbehaviour
from properties.assertions import agrees, holds, not_offered, refuse, same_bytes, simulate, within
from properties.chance import deviation_limit
from properties.checks import checks
from properties.dtypes import either, to
from reference import sampling
from reference.bounds import map_arrays
from reference.model import forward

DRAWS = 2048
"""Tokens asked of a sampler in one call."""


def law(subject):
    """The oracle of probabilities under the subject's conventions."""
    return functools.partial(sampling.token_probabilities, **declared(subject))


def declared(subject):
    """Keywords of the oracle for the subject's conventions."""
    return {"ties": subject.conventions.top_k_ties, "filters": subject.conventions.filters}


def probabilities(subject, rule, logits, options, dtype):
    """The subject's probabilities are the oracle's, and 0 at the same tokens."""
    try:
        got = np.asarray(subject.token_probabilities(to(dtype, logits), **options))
    except Misbehaviour as error:
        refuse(
            rule, f"token_probabilities({logits}, {options}) {error.found}", function="token_probabilities"
        )
    expected = law(subject)(logits, **options)
    left_out = f"{options}: tokens {np.flatnonzero(got == 0)} of {logits} are left out"
    holds(
        rule,
        np.array_equal(got == 0.0, expected == 0.0),
        f"{left_out}, expected {np.flatnonzero(expected == 0)}",
    )
    if np.count_nonzero(expected) == 1:
        same_bytes(rule, got, expected.astype(dtype), f"the only token that is left, {options}")
    else:
        agrees(rule, got, functools.partial(law(subject), **options), logits, dtype=dtype)


@checks(
    "SAMP-01",
    logits=tied_logits | distinct_logits(),
    temperature=temperatures | st.sampled_from([0.0, 1e-3]),
)
def test_logits_are_divided_by_the_temperature(subject, dtype, logits, temperature):
    """A small temperature leaves the largest, all of several; 0 leaves the first."""
    if temperature == 1e-3:
        logits = np.round(logits)  # what is not equal is 1 / 1e-3 apart
    probabilities(subject, "SAMP-01", logits, sampling.OFF | {"temperature": temperature}, dtype)


@checks("SAMP-02", logits=tied_logits, k=st.integers(0, 10))
def test_top_k_keeps_those_that_are_equal_to_the_kth(subject, dtype, logits, k):
    probabilities(subject, "SAMP-02", logits, sampling.OFF | {"top_k": k}, dtype)


@checks("SAMP-03", case=filtered_logits("top_p"))
def test_top_p_keeps_the_nucleus(subject, dtype, case):
    decided_for_all(subject, case)
    logits, options = case
    probabilities(subject, "SAMP-03", logits, options, dtype)


@checks("SAMP-04", case=filtered_logits("min_p"))
def test_min_p_keeps_a_share_of_the_largest(subject, dtype, case):
    decided_for_all(subject, case)
    logits, options = case
    probabilities(subject, "SAMP-04", logits, options, dtype)


@checks("SAMP-05", case=filtered_logits("top_k", "top_p", "min_p"))
def test_a_filter_sees_what_the_one_before_it_left(subject, dtype, case):
    decided_for_all(subject, case)
    logits, options = case
    probabilities(subject, "SAMP-05", logits, options, dtype)


def decided_for_all(subject, case):
    """Only cases in which no choice hangs on a rounding, in single precision or in double."""
    logits, options = case
    assume(sampling.decided(logits, np.float32, **declared(subject), **options))


@checks("SAMP-06", case=filtered_logits("top_k", "top_p"), seed=run_seeds, number=st.integers(0, 1))
def test_draws_have_the_probabilities(subject, case, seed, number):
    """By their empirical distribution (Dvoretzky, Kiefer and Wolfowitz)."""
    decided_for_all(subject, case)
    logits, options = case
    expected = law(subject)(logits, **options)
    ids = np.asarray(subject.sample_token(to(either(subject, number), logits), DRAWS, seed, **options))
    holds("SAMP-06", ids.shape == (DRAWS,), f"{ids.shape} ids, {DRAWS} were asked")
    holds("SAMP-06", ids.min() >= 0 and ids.max() < len(logits), f"ids from {ids.min()} to {ids.max()}")
    wrong = np.flatnonzero(expected[ids] == 0.0)
    holds("SAMP-06", wrong.size == 0, f"{options}: token {ids[wrong[:1]]} was drawn, which is left out")
    shares = np.bincount(ids, minlength=len(logits)) / DRAWS
    gap = float(np.max(np.abs(np.cumsum(shares) - np.cumsum(expected))))
    limit = deviation_limit(DRAWS)
    found = f"{options}: shares {shares.round(3)} of probabilities {expected.round(3)}"
    holds("SAMP-06", gap <= limit, f"{found}, {gap:.3f} apart; at most {limit:.3f} is chance")


@checks("SAMP-07", seed=run_seeds, other=st.integers(0, 2**32 - 1))
def test_samples_are_a_function_of_the_seed(subject, seed, other):
    """And leave the global generators as they were; two seeds have equal draws with probability 8^-256."""
    options, logits = sampling.OFF, np.zeros(8)
    draw = functools.partial(subject.sample_token, logits, 256, **options)
    first = np.asarray(draw(seed))
    with Generators(other) as generators:
        again = np.asarray(draw(seed))
        holds("SAMP-07", generators.untouched(), "a global generator of random numbers was drawn from")
    same_bytes("SAMP-07", again, first, "the same draw again, after others")
    for another in ((seed + 1) % 2**64, seed ^ 1 << 40):
        if another != seed and (subject.conventions.seeds == "64 bits" or another == (seed + 1) % 2**64):
            holds(
                "SAMP-07", not np.array_equal(draw(another), first), f"seeds {seed} and {another} draw alike"
            )


class Generators:
    """The global generators, seeded with something else for a while; torch's too, if it is loaded."""

    def __init__(self, seed):
        self.seed, self.torch = seed, sys.modules.get("torch")

    def states(self):
        """A comparable copy of all states."""
        numpy_state: Any = np.random.get_state()  # noqa: NPY002  (the global generator is what is tested)
        found = [random.getstate(), (numpy_state[1].tobytes(), numpy_state[2:])]
        return [*found, self.torch.get_rng_state().numpy().tobytes()] if self.torch else found

    def untouched(self):
        """Whether nothing was drawn since the beginning."""
        return self.states() == self.seeded

    def __enter__(self):
        self.before = random.getstate(), np.random.get_state()  # noqa: NPY002
        self.before_torch = self.torch.get_rng_state() if self.torch else None
        random.seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002
        if self.torch:
            self.torch.manual_seed(self.seed)
        self.seeded = self.states()
        return self

    def __exit__(self, *exception):
        random.setstate(self.before[0])
        np.random.set_state(self.before[1])  # noqa: NPY002
        if self.torch:
            self.torch.set_rng_state(self.before_torch)


def decoded(subject, rule, case, prompt, count, dtype):
    """(prompt, ids, logits) that greedy decoding gave, of the shapes that were asked."""
    prompt = case.tokens[0, :prompt].tolist()
    count = min(count, case.config["context"] + 1 - len(prompt))
    ids, logits = subject.generate(to(dtype, case.params), prompt, count, case.config)
    ids, logits = np.asarray(ids), np.asarray(logits)
    shapes = ids.shape, logits.shape
    expected = (count,), (count, case.config["vocab_size"])
    holds(rule, shapes == expected, f"ids and logits of shapes {shapes}, expected {expected}")
    return prompt, ids, logits


@checks(
    "SAMP-08", floor=5, case=model_cases(key_masks=False), prompt=st.integers(1, 4), count=st.integers(2, 5)
)
def test_decoding_has_the_logits_of_the_whole_text(subject, dtype, case, prompt, count):
    prompt, ids, logits = decoded(subject, "SAMP-08", case, prompt, count, dtype)
    text = np.array([[*prompt, *ids[:-1].tolist()]])

    def last(params, config):
        return forward(params, text, np.ones(text.shape, bool), config)[0, len(prompt) - 1 :]

    simulated = simulate(last, case.params, case.config)
    within("SAMP-08", logits, map_arrays(lambda x: x.bounded(dtype), simulated), dtype)


@checks("SAMP-09", case=model_cases(key_masks=False), prompt=st.integers(1, 6), tied=st.booleans())
def test_the_first_of_the_most_likely_tokens_is_appended(subject, case, prompt, tied):
    """Of its own logits; equal rows of the embedding make equal logits."""
    if subject.conventions.float_types[-1] is not np.float64:
        not_offered("float64 is not offered")
    if tied:
        half = case.config["vocab_size"] // 2
        case.params["E"][half : 2 * half] = case.params["E"][:half]
    _, ids, logits = decoded(subject, "SAMP-09", case, prompt, 4, np.float64)
    greedy = np.argmax(logits, axis=-1)
    holds("SAMP-09", np.array_equal(ids, greedy), f"ids {ids}; the first of the largest logits are {greedy}")
