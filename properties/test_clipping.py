"""Clipping by the global norm."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from fixtures.strategies import clipping_cases
from properties.assertions import agrees, holds, same_bytes
from properties.dtypes import in_both_dtypes, to
from reference import clipping


@in_both_dtypes
@given(case=clipping_cases())
def test_the_norm_is_that_of_all_gradients(subject, dtype, case):
    _, norm = subject.clip_by_global_norm(to(dtype, case.gradients), case.max_norm)
    agrees("CLIP-01", norm, clipping.global_norm, case.gradients, dtype=dtype)


@in_both_dtypes
@given(case=clipping_cases())
def test_gradients_are_scaled_to_the_limit(subject, dtype, case):
    got, _ = subject.clip_by_global_norm(to(dtype, case.gradients), case.max_norm)
    args = case.gradients, case.max_norm
    agrees("CLIP-02", list(got), lambda *args: clipping.clip_by_global_norm(*args)[0], *args, dtype=dtype)


@in_both_dtypes
@given(case=clipping_cases(), room=st.sampled_from([1.0 + 2.0**-40, 1.5, 1e6]))
def test_nothing_changes_below_the_limit(subject, dtype, case, room):
    gradients = to(dtype, case.gradients)
    limit = float(clipping.global_norm(case.gradients)) * room
    assume(limit > 0.0)
    got, _ = subject.clip_by_global_norm([g.copy() for g in gradients], limit)
    for place, (after, before) in enumerate(zip(got, gradients, strict=True)):
        same_bytes("CLIP-03", after, before, f"gradient {place}, limit {limit}")


@in_both_dtypes
@given(scale=st.sampled_from([1.0, 2.0**-20, 2.0**30]))
def test_nothing_changes_at_the_limit(subject, dtype, scale):
    """The norm of (3, 4) is 5, exactly, and so is every power of two times it."""
    gradients = [np.array([3.0 * scale], dtype=dtype), np.array([[0.0, -4.0 * scale]], dtype=dtype)]
    got, norm = subject.clip_by_global_norm([g.copy() for g in gradients], 5.0 * scale)
    holds("CLIP-01", float(norm) == 5.0 * scale, f"got norm {norm}, expected {5.0 * scale}")
    for place, (after, before) in enumerate(zip(got, gradients, strict=True)):
        same_bytes("CLIP-03", after, before, f"gradient {place}, limit equal to the norm")
