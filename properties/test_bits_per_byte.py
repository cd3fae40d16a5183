"""Bits per byte: true byte counts, every counted target once, a budget in tokens."""

import math

import numpy as np
from hypothesis import strategies as st

from fixtures.evaluation_strategies import texts_in_batches, vocabularies
from properties.assertions import agrees, holds
from properties.checks import checks
from properties.dtypes import to
from reference import bits_per_byte as oracle


def bits(subject, rule, text, dtype, budget=None):
    """The subject's bits per byte are the oracle's."""
    batches = [(to(dtype, nll), targets) for nll, targets in text.batches]
    got = subject.bits_per_byte(batches, text.bytes_of, budget)
    agrees(rule, got, oracle.bits_per_byte, text.batches, text.bytes_of, budget, dtype=dtype)


@checks("BPB-01", vocabulary=vocabularies, number=st.integers(0, 7), many=st.booleans())
def test_a_token_has_the_bytes_that_it_stands_for(subject, vocabulary, number, many):
    special = list(range(len(vocabulary)))[: number if many else 1]
    got = [int(n) for n in subject.token_bytes(vocabulary, special)]
    expected = oracle.token_bytes(vocabulary, special)
    holds("BPB-01", got == expected, f"token_bytes({vocabulary}, {special}) is {got}, expected {expected}")


@checks("BPB-02", text=texts_in_batches())
def test_nats_and_bytes_are_added_over_all_batches(subject, dtype, text):
    bits(subject, "BPB-02", text, dtype)


@checks("BPB-03", text=texts_in_batches(ignored=True))
def test_what_stands_for_no_bytes_has_no_influence(subject, dtype, text):
    bits(subject, "BPB-03", text, dtype)


@checks("BPB-04", text=texts_in_batches(), extra=st.integers(-1, 4), batches=st.integers(1, 3))
def test_batches_are_read_while_they_fit_into_the_budget(subject, dtype, text, extra, batches):
    sizes = [targets.size for _, targets in text.batches]
    bits(subject, "BPB-04", text, dtype, max(sum(sizes[:batches]) + extra, sizes[0]))


@checks("BPB-03", floor=1, rows=st.integers(1, 3))
def test_bits_per_byte_of_nothing_are_what_is_declared(subject, rows):
    """A text of ignored targets has no bytes."""
    empty, nothing = subject.conventions.no_bytes, [(np.ones((rows, 2)), np.full((rows, 2), -1))]
    if empty == "raises":
        holds("BPB-03", raises(subject, nothing), "bits per byte of no bytes returned, `raises` is declared")
        return
    got = float(subject.bits_per_byte(nothing, np.array([1, 2]), None))
    right = math.isnan(got) if empty == "nan" else got == math.inf
    holds("BPB-03", right, f"bits per byte of no bytes are {got}, expected {empty}")


def raises(subject, batches):
    """Whether the function as the subject has it raises."""
    try:
        subject.raw("bits_per_byte")(batches, np.array([1, 2]), None)
    except Exception:
        return True
    return False
