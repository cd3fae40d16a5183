"""Dropout masks that are a function of seed, step, site and place."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fixtures.strategies import dropout_cases, normal, run_seeds
from properties.assertions import agrees, holds, same_bytes
from properties.dtypes import in_both_dtypes, to
from reference import dropout


@in_both_dtypes
@given(case=dropout_cases())
def test_the_mask_is_that_of_the_counter(subject, dtype, case):
    x = to(dtype, case.x)
    x[x == 0] = 1
    p, seed, step, site, context = case.place
    expected = dropout.kept(x.shape, p, seed=seed, step=step, site=site, context=context)
    same_bytes("DROP-01", subject.dropout(x, *case.place) != 0, expected, "mask of kept entries")


@in_both_dtypes
@given(case=dropout_cases())
def test_kept_entries_are_divided_by_one_minus_p(subject, dtype, case):
    got = subject.dropout(to(dtype, case.x), *case.place)
    agrees("DROP-02", got, dropout.dropout, case.x, *case.place, dtype=dtype)


@in_both_dtypes
@given(case=dropout_cases(), rows=st.integers(1, 4), length=st.integers(1, 6))
def test_the_mask_does_not_depend_on_the_batch(subject, dtype, case, rows, length):
    x = to(dtype, case.x)
    whole, part = subject.dropout(x, *case.place), subject.dropout(x[:rows, :length], *case.place)
    same_bytes("DROP-03", part, whole[:rows, :length], f"first {rows} rows and {length} positions alone")


@given(seed=run_seeds, step=st.integers(0, 10**6), site=st.integers(0, 3))
def test_seed_step_and_site_choose_the_mask(subject, seed, step, site):
    """512 entries at p = 1/2: two independent masks are equal with probability 2^-512."""
    x = np.ones((1, 8, 64))
    masks = [
        subject.dropout(x, 0.5, s, t, place, 8)
        for s, t, place in (
            (seed, step, site),
            ((seed + 1) % 2**64, step, site),
            (seed, step + 1, site),
            (seed, step, site + 1),
        )
    ]
    for other, what in zip(masks[1:], ("seed", "step", "site"), strict=True):
        holds("DROP-04", not np.array_equal(masks[0], other), f"another {what} gives the same mask")


@given(case=dropout_cases())
def test_nothing_is_dropped_at_p_zero(subject, case):
    x = normal(np.random.default_rng(case.seed), case.x.shape)
    got = subject.dropout(x, 0.0, case.seed, case.step, case.site, case.context)
    same_bytes("DROP-02", got, x, "dropout with p = 0")
