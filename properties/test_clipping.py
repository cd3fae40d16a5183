"""Clipping by the global norm."""

import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from fixtures.explicit_cases import CLIPPINGS, USUAL_CLIPPINGS, each
from fixtures.handed_over import ReadOnce
from fixtures.strategies import clipping_cases
from properties.assertions import agrees, holds, not_offered, same_bytes
from properties.checks import checks
from properties.dtypes import to
from reference import clipping
from reference.arithmetic import unit_roundoff


@checks("CLIP-01", case=clipping_cases(), always=each(CLIPPINGS))
def test_the_norm_is_that_of_all_gradients(subject, dtype, case):
    norm = subject.conventions.norm
    assume(clipping.comparable(case.gradients, dtype=dtype, norm=norm))
    _, got = subject.clip_by_global_norm(to(dtype, case.gradients), case.max_norm)
    agrees("CLIP-01", got, lambda grads: clipping.global_norm(grads, norm), case.gradients, dtype=dtype)


@checks("CLIP-02", case=clipping_cases(), always=each(CLIPPINGS))
def test_gradients_are_scaled_to_the_limit(subject, dtype, case):
    declared = subject.conventions
    assume(clipping.comparable(case.gradients, dtype=dtype, norm=declared.norm))

    def clipped(*args):
        return clipping.clip_by_global_norm(*args, **declared.clipping)[0]

    got, _ = subject.clip_by_global_norm(to(dtype, case.gradients), case.max_norm)
    args = case.gradients, case.max_norm
    agrees("CLIP-02", list(got), clipped, *args, scalars=declared.scalars, dtype=dtype)


def must_be_untouched(subject, dtype, gradients, norm, limit):
    """Whether the declared clipping leaves gradients of this norm unchanged, however the norm is rounded.

    Each entry is squared and added, and the root halves the error: as many roundings as there are entries.
    """
    declared = subject.conventions
    entries = sum(g.size for g in gradients)
    slack = 0.0 if declared.norm == "double" else entries * unit_roundoff(dtype)
    return clipping.untouched(norm, limit, clip=declared.clip, slack=slack)


@checks(
    "CLIP-03",
    case=clipping_cases(),
    factor=st.sampled_from([1.0 + 2.0**-40, 1.5, 1e6]),
    always=[*each(USUAL_CLIPPINGS, factor=1.5), *each(CLIPPINGS, factor=math.inf)],
)
def test_nothing_changes_below_the_limit(subject, dtype, case, factor):
    gradients = to(dtype, case.gradients)
    norm = float(clipping.global_norm(case.gradients))
    limit = norm * factor
    declared = subject.conventions
    assume(limit > 0.0 and not math.isnan(limit))
    assume(clipping.comparable(case.gradients, dtype=dtype, norm=declared.norm))
    if declared.clip == "keras":
        always_scaled(subject, dtype, case.gradients, limit)
        return
    assume(must_be_untouched(subject, dtype, gradients, norm, limit))
    got, _ = subject.clip_by_global_norm([g.copy() for g in gradients], limit)
    for place, (after, before) in enumerate(zip(got, gradients, strict=True)):
        same_bytes("CLIP-03", after, before, f"gradient {place}, limit {limit}")


def always_scaled(subject, dtype, gradients, limit):
    """Keras multiplies by max (1 / max), which is 1 but for its roundings; for an infinite limit it is NaN."""
    assume(math.isfinite(limit))
    declared = subject.conventions

    def clipped(*args):
        return clipping.clip_by_global_norm(*args, **declared.clipping)[0]

    got, _ = subject.clip_by_global_norm(to(dtype, gradients), limit)
    agrees("CLIP-03", list(got), clipped, gradients, limit, scalars=declared.scalars, dtype=dtype)


@checks("CLIP-03", floor=3, scale=st.sampled_from([1.0, 2.0**-20, 2.0**30]))
def test_nothing_changes_at_the_limit(subject, dtype, scale):
    """The norm of (3, 4) is exactly 5, and stays exact when both are multiplied by a power of two."""
    if not clipping.untouched(5.0, 5.0, clip=subject.conventions.clip):
        not_offered("a clipping that scales gradients whose norm is at the limit is declared")
    gradients = [np.array([3.0 * scale], dtype=dtype), np.array([[0.0, -4.0 * scale]], dtype=dtype)]
    got, norm = subject.clip_by_global_norm([g.copy() for g in gradients], 5.0 * scale)
    holds("CLIP-03", float(norm) == 5.0 * scale, f"got norm {norm}, expected {5.0 * scale}")
    for place, (after, before) in enumerate(zip(got, gradients, strict=True)):
        same_bytes("CLIP-03", after, before, f"gradient {place}, limit equal to the norm")


@checks("CLIP-04", case=clipping_cases())
def test_gradients_may_be_handed_over_once(subject, dtype, case):
    """As a generator does that walks over the parameters of a model."""
    declared = subject.conventions
    assume(clipping.comparable(case.gradients, dtype=dtype, norm=declared.norm))
    got, _ = subject.clip_by_global_norm(ReadOnce(to(dtype, case.gradients)), case.max_norm)

    def clipped(*args):
        return clipping.clip_by_global_norm(*args, **declared.clipping)[0]

    args = case.gradients, case.max_norm
    agrees("CLIP-04", list(got), clipped, *args, scalars=declared.scalars, dtype=dtype)


@checks("CLIP-04", floor=2, limit=st.sampled_from([1.0, 1e-30, math.inf]))
def test_nothing_has_a_norm_of_zero(subject, limit):
    assume(math.isfinite(limit) or subject.conventions.clip != "keras")
    if subject.conventions.no_gradients != "norm 0":
        not_offered("a clipping that is not defined without gradients is declared")
    got, norm = subject.clip_by_global_norm([], limit)
    holds("CLIP-04", not list(got) and float(norm) == 0.0, f"got {list(got)} and the norm {norm}")
