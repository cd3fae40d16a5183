"""Rounding of weights: to half precision and bfloat16, to 8 bits, and to bfloat16 at random."""

import numpy as np
import pytest
from hypothesis import strategies as st

from fixtures.explicit_cases import WEIGHTS
from fixtures.loop_strategies import LAYOUTS, laid_out
from fixtures.rounding_cases import EVERY_FLOAT8, NUMBERS_OF_BFLOAT16, SHARES, above, between
from fixtures.strategies import generators, run_seeds, weights
from properties.assertions import holds, same_bytes
from properties.chance import count_limit
from properties.checks import checks
from reference import rounding


@checks("ROUND-01", x=weights(), always=[{"x": x} for x in WEIGHTS])
@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_weights_are_rounded_to_nearest_even(subject, dtype, form, x):
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    same_bytes("ROUND-01", subject.round_weights(x, form), rounding.round_weights(x, form), form)


@checks("ROUND-02")
@pytest.mark.parametrize("form", list(rounding.FLOAT8))
def test_eight_bits_are_rounded_to_nearest_even(subject, dtype, form):
    """Every number of the format, the middle between any two, and what is next to each in the dtype."""
    x = EVERY_FLOAT8[form].astype(dtype)
    near = np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf)), [np.nan]])
    near = near.astype(dtype)
    got = np.asarray(subject.round_float8(near, form))
    law = rounding.round_float8(near, form, subject.conventions.float8)
    lost = np.isnan(law)
    same_bytes("ROUND-02", np.isnan(got), lost, f"which are NaN in {form}")
    same_bytes("ROUND-02", np.where(lost, dtype(0), got), np.where(lost, dtype(0), law), form)


@checks("ROUND-03", rng=generators, seed=run_seeds, step=st.integers(0, 2**40))
def test_a_weight_is_rounded_at_random_to_a_neighbour(subject, dtype, rng, seed, step):
    x = rng.choice([-1.0, 1.0], 64) * 10.0 ** rng.uniform(-30.0, 30.0, 64)
    x = np.concatenate([x, NUMBERS_OF_BFLOAT16]).astype(dtype)
    got = np.asarray(subject.round_stochastically(x, seed, step))
    lower, upper = between(x)
    beside = (got == lower) | (got == upper)
    place = int(np.argmin(beside))
    said = f"{x[place]!r} became {got[place]!r}, between {lower[place]!r} and {upper[place]!r}"
    holds("ROUND-03", bool(beside.all()), said)
    kept = got[64:], x[64:]
    same_bytes("ROUND-03", *kept, "numbers of bfloat16")


@checks("ROUND-04", floor=1)
def test_a_weight_is_rounded_up_as_often_as_it_is_near(subject, dtype):
    """Of 2^16 equal weights, for shares of an ulp from 2^-9 to 1 - 2^-9, of either sign."""
    for seed, sign in ((0, 1.0), (2**63, -1.0)):
        x = above(dtype, sign)
        got = np.abs(np.asarray(subject.round_stochastically(x, seed, 0)))
        number = x.shape[1]
        for share, row in zip(SHARES, got, strict=True):
            count = int((row > 1.0).sum())
            limit = count_limit(number, share)
            said = f"{count} of {number} weights {share} of an ulp above a number of bfloat16 were rounded up"
            holds("ROUND-04", abs(count - number * share) <= limit, f"{said}, expected {number * share:.0f}")


@checks("ROUND-05", seed=run_seeds, step=st.integers(0, 2**32))
def test_the_noise_of_rounding_is_a_function_of_seed_step_and_place(subject, seed, step):
    dtype = subject.conventions.float_types[0]
    x = np.full(4096, 1.0 + 2.0**-8, dtype)  # in the middle between two numbers of bfloat16
    first = np.asarray(subject.round_stochastically(x, seed, step))
    others = {
        "the next update": subject.round_stochastically(x, seed, step + 1),
        "another seed": subject.round_stochastically(x, seed ^ 1, step),
    }
    same_bytes("ROUND-05", subject.round_stochastically(x, seed, step), first, "rounded again")
    half = len(x) // 2
    pairs = {name: (first, np.asarray(y)) for name, y in others.items()}
    pairs |= {"another place": (first[:half], first[half:]), "the next place": (first[::2], first[1::2])}
    for name, (a, b) in pairs.items():
        alike = int((a == b).sum())
        said = f"{alike} of {len(a)} weights were rounded in {name} as in the first"
        holds("ROUND-05", abs(alike - len(a) / 2) <= count_limit(len(a), 0.5), said)


@checks("ROUND-02", "ROUND-03")
def test_arrays_of_every_layout_are_rounded(subject, dtype):
    rng = np.random.default_rng(4)
    for layout in LAYOUTS:
        x = laid_out(rng.standard_normal((3, 5)).astype(dtype), layout)
        law = rounding.round_float8(x, "float8_e5m2")
        same_bytes("ROUND-02", subject.round_float8(x, "float8_e5m2"), law, f"float8_e5m2, {layout}")
        got = np.asarray(subject.round_stochastically(x, 1, 1))
        lower, upper = between(x)
        beside = bool(((got == lower) | (got == upper)).all())
        holds("ROUND-03", beside, f"not the numbers beside the weights, {layout}")
