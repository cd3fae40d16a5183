"""Rotary position embedding and its gradient."""

import functools

import numpy as np
from hypothesis import strategies as st

from fixtures.explicit_cases import ROTARY, each
from fixtures.strategies import rotary_cases
from properties.assertions import agrees, within
from properties.checks import checks
from properties.dtypes import to
from reference import bounds, rotary


@checks("ROPE-01", case=rotary_cases(), always=each(ROTARY))
def test_pairs_are_rotated_by_their_angle(subject, dtype, case):
    oracle = functools.partial(rotary.rope, pairing=subject.conventions.rotary)
    agrees("ROPE-01", subject.rope(to(dtype, case.x), case.base), oracle, case.x, case.base, dtype=dtype)


@checks("ROPE-02", case=rotary_cases(), always=each(ROTARY))
def test_gradient_is_rotated_back(subject, dtype, case):
    got = subject.rope_backward(to(dtype, case.x), case.base)
    oracle = functools.partial(rotary.rope_backward, pairing=subject.conventions.rotary)
    agrees("ROPE-02", got, oracle, case.x, case.base, dtype=dtype)


@checks("ROPE-03", case=rotary_cases(), distance=st.integers(0, 8))
def test_dot_products_depend_on_distance_alone(subject, dtype, case, distance):
    """One query and one key at every position: all pairs at the same distance have the same dot product."""
    oracle = functools.partial(rotary.rope, pairing=subject.conventions.rotary)
    q = np.repeat(case.x[:1, :1, :1], 32, axis=2)
    k = np.repeat(case.x[-1:, -1:, -1:], 32, axis=2)
    rotated = [np.asarray(subject.rope(to(dtype, x), case.base), dtype=np.float64)[0, 0] for x in (q, k)]
    expected = [bounds.worst_case(oracle, x, case.base, dtype=dtype) for x in (q, k)]
    (a, ea), (b, eb) = ((np.abs(x.value[0, 0]), x.bound[0, 0]) for x in expected)
    bound = ((a + ea)[distance:] * eb[: 32 - distance] + ea[distance:] * b[: 32 - distance]).sum(axis=-1)
    dots = (rotated[0][distance:] * rotated[1][: 32 - distance]).sum(axis=-1)
    within("ROPE-03", dots, bounds.Bounded(np.full_like(dots, dots[0]), bound + bound[0] + 1e-300), dtype)
