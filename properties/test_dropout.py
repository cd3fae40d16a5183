"""Dropout: its masks are a function of seed, step, site and position; kept entries are scaled."""

import numpy as np
from hypothesis import strategies as st

from fixtures.explicit_cases import DROPOUTS, SEEDS, each
from fixtures.strategies import dropout_cases, normal, run_seeds
from properties.assertions import agrees, holds, not_offered, same_bytes
from properties.chance import deviation_limit
from properties.checks import checks
from properties.dtypes import to
from reference import dropout


def require_philox(subject):
    """Skip a subject that declares a generator of its own, whose masks are then unknown."""
    if subject.conventions.generator != "philox":
        not_offered("a generator of its own is declared")


def scaled_where(kept, x, p):
    """x / (1 - p) where kept, else 0."""
    return np.where(kept, x / (1.0 - p), 0.0)


@checks("DROP-01", case=dropout_cases(), always=each(DROPOUTS))
def test_the_mask_is_that_of_the_counter(subject, dtype, case):
    require_philox(subject)
    x = to(dtype, case.x)
    x[x == 0] = 1
    p, seed, step, site, context = case.place
    expected = dropout.kept(x.shape, p, seed=seed, step=step, site=site, context=context)
    same_bytes("DROP-01", subject.dropout(x, *case.place) != 0, expected, "mask of kept entries")


@checks("DROP-02", case=dropout_cases(), always=each(DROPOUTS))
def test_kept_entries_are_divided_by_one_minus_p(subject, dtype, case):
    """Each entry is either dropped or scaled; DROP-01 and DROP-05 check which ones."""
    got = subject.dropout(to(dtype, case.x), *case.place)
    kept = np.asarray(got) != 0.0
    agrees("DROP-02", got, scaled_where, kept, case.x, case.p, dtype=dtype)


@checks("DROP-03", case=dropout_cases(), rows=st.integers(1, 4), length=st.integers(1, 6))
def test_the_mask_does_not_depend_on_the_batch(subject, dtype, case, rows, length):
    require_philox(subject)
    x = to(dtype, case.x)
    whole, part = subject.dropout(x, *case.place), subject.dropout(x[:rows, :length], *case.place)
    same_bytes("DROP-03", part, whole[:rows, :length], f"first {rows} rows and {length} positions alone")


@checks(
    "DROP-04",
    seed=run_seeds,
    step=st.integers(0, 10**6),
    site=st.integers(0, 3),
    always=[{"seed": seed, "step": 0, "site": 0} for seed in SEEDS],
)
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
            *([((seed + 2**32) % 2**64, step, site)] if subject.conventions.seeds == "64 bits" else []),
        )
    ]
    for other, what in zip(masks[1:], ("seed", "step", "site", "upper half of the seed"), strict=False):
        holds("DROP-04", not np.array_equal(masks[0], other), f"another {what} gives the same mask")


@checks("DROP-02", case=dropout_cases())
def test_nothing_is_dropped_at_p_zero(subject, case):
    x = normal(np.random.default_rng(case.seed), case.x.shape)
    got = subject.dropout(x, 0.0, case.seed, case.step, case.site, case.context)
    same_bytes("DROP-02", got, x, "dropout with p = 0")


@checks("DROP-05", seed=run_seeds, step=st.integers(0, 1000), p=st.sampled_from([0.1, 0.5, 0.9]))
def test_a_share_p_is_dropped(subject, seed, step, p):
    """Of 4096 independent draws (Hoeffding's inequality)."""
    x = np.ones((4, 16, 64))
    share = float(np.mean(subject.dropout(x, p, seed, step, 0, 16) == 0.0))
    limit = deviation_limit(x.size)
    found = f"{share:.4f} of {x.size} entries are dropped at p = {p}; at most {limit:.4f} away is chance"
    holds("DROP-05", abs(share - p) <= limit, found)
