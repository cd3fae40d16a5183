"""Muon: orthogonalisation, and each update from the state that the subject returned before."""

import math
from typing import Any

import numpy as np
from hypothesis import assume

from fixtures.explicit_cases import each
from fixtures.muon_strategies import (
    HEADS,
    LAID_OUT,
    MUON,
    STACKS,
    heads,
    matrices,
    muon_cases,
    schedule_cases,
    stacks,
)
from properties.assertions import holds, not_offered, same_bytes, within
from properties.checks import checks
from properties.dtypes import either, to
from reference import bounds, muon, muon_bounds
from reference.bounds import Bounded

KEPT = {"polar express": (0.85, 1.15), "newton-schulz": (0.47, 1.21)}
"""Between which numbers the polynomials map every singular value of 0.001 to 1."""


def in_double(x):
    """An array as float64."""
    return np.asarray(x, dtype=np.float64)


def frobenius(x):
    """The norm of all entries, by a sum that is rounded once."""
    return math.sqrt(math.fsum((in_double(x) ** 2).ravel()))


# ---- orthogonalisation


@checks("MUON-01", case=matrices(), always=each(STACKS + LAID_OUT))
def test_a_matrix_is_orthogonalised_by_the_declared_polynomials(subject, dtype, case):
    g = case.typed(dtype)
    found = subject.orthogonalize(g)
    within(
        "MUON-01",
        found,
        muon_bounds.orthogonalized(in_double(g), dtype, **subject.conventions.orthogonal),
        dtype,
    )
    same_bytes("MUON-01", subject.orthogonalize(g), found, "the same matrix, orthogonalised again")


@checks("MUON-02", case=matrices())
def test_no_singular_value_is_left_small_or_large(subject, case):
    """Of those that were a thousandth of the norm or more, as far as the bound of all entries tells (Weyl)."""
    how, dtype = subject.conventions.orthogonal, either(subject, case.place)
    g = to(dtype, case.g)
    norm = frobenius(g)
    assume(norm >= 1e-3)  # below, what is added to the norm makes them smaller
    found = subject.orthogonalize(g)
    values = np.linalg.svd(in_double(g), compute_uv=False) / norm
    large = int(np.count_nonzero(values > 2e-3))
    moved = frobenius(muon_bounds.orthogonalized(in_double(g), dtype, **how).bound)
    low, high = KEPT[how["coefficients"]]
    holds("MUON-02", np.all(np.isfinite(found)), "not every number is finite")
    after = np.linalg.svd(in_double(found), compute_uv=False)
    outside = [s for s in after[:large] if not low - moved <= s <= high + moved]
    holds("MUON-02", not outside, f"singular values of {outside}, outside {low} to {high}")


@checks("MUON-03", case=matrices())
def test_a_transposed_matrix_gives_the_transposed_result(subject, case):
    dtype = either(subject, case.place)
    g = to(dtype, case.g)
    own = subject.orthogonalize(g)
    allowed = muon_bounds.orthogonalized(in_double(g), dtype, **subject.conventions.orthogonal).bound
    turned = subject.orthogonalize(np.ascontiguousarray(g.T))
    within("MUON-03", turned, Bounded(in_double(own).T, 2.0 * allowed.T), dtype)


@checks("MUON-04", case=stacks(), always=each(STACKS))
def test_the_matrices_of_a_stack_do_not_see_each_other(subject, case):
    dtype = either(subject, case.place)
    g = to(dtype, case.g)
    own = np.stack([subject.orthogonalize(one) for one in g])
    allowed = muon_bounds.orthogonalized(in_double(g), dtype, **subject.conventions.orthogonal).bound
    within("MUON-04", subject.orthogonalize(g), Bounded(in_double(own), 2.0 * allowed), dtype)


@checks("MUON-05", case=matrices())
def test_where_there_is_no_gradient_there_is_no_update(subject, case):
    """A product with 0 is 0, in whatever order it is summed."""
    g = to(either(subject, case.place), case.g)
    g[::2] = 0.0
    found = subject.orthogonalize(g)
    zeros = muon_bounds.sure_zeros(g, g)
    holds("MUON-05", np.all(np.isfinite(found)), "not every number is finite")
    holds(
        "MUON-05", not found[np.broadcast_to(zeros, g.shape)].any(), "a row or column of zeros has an update"
    )
    holds("MUON-05", not np.any(subject.orthogonalize(0.0 * g)), "a gradient of 0 has an update")


@checks("MUON-06", case=heads(), always=each(HEADS))
def test_heads_are_cut_along_the_axis_on_which_they_lie(subject, case):
    dtype, how = either(subject, case.place), subject.conventions.orthogonal
    g = case.typed(dtype)
    parts = np.split(in_double(g), case.heads, axis=case.axis)
    law = [muon_bounds.orthogonalized(part, dtype, **how) for part in parts]
    value, bound = (
        np.concatenate([getattr(x, name) for x in law], axis=case.axis) for name in ("value", "bound")
    )
    found = subject.orthogonalize_heads(g, case.heads, case.axis)
    within("MUON-06", found, Bounded(value, bound), dtype)
    again = subject.orthogonalize_heads(g, case.heads, case.axis)
    same_bytes("MUON-06", again, found, "the same matrix, cut again")


# ---- the update


def updates(subject, dtype, case):
    """Yields (state before, gradient, settings, state after, law with bounds) of every update of the subject's."""
    declared = subject.conventions
    before = case.begin(dtype)
    for t in range(1, len(case.gradients) + 1):
        (p, momentum, second), g = before, case.gradient(t, dtype)
        settings = {"t": t, **case.settings}
        after = subject.muon_step(p, g, momentum, second, **settings)
        state = [in_double(x) for x in (p, g, momentum, second)]
        how = {"dtype": dtype, "scalars": declared.scalars, **settings, **declared.muon}
        yield before, g, settings, after, muon_bounds.stepped(*state, **how)
        before = after


@checks("MUON-07", "MUON-08", case=muon_cases(), always=each(MUON))
def test_every_update_is_the_formula(subject, case):
    """The momentum first, then the weights."""
    dtype = either(subject, case.place)
    for (p, *state), g, settings, after, law in updates(subject, dtype, case):
        within("MUON-07", after[1], law[1], dtype)
        within("MUON-08", after[0], law[0], dtype)
        again = subject.muon_step(p, g, *state, **settings)
        same_bytes("MUON-08", again[0], after[0], f"update {settings['t']}, made again")


@checks("MUON-09", case=muon_cases(), always=each(MUON))
def test_the_second_moment_is_one_number_for_each_row_or_column(subject, case):
    if subject.conventions.muon_second == "none":
        not_offered("muon_second: none")
    dtype = either(subject, case.place)
    for _, _, _, after, law in updates(subject, dtype, case):
        within("MUON-09", after[2], law[2], dtype)


@checks("MUON-10", case=muon_cases(), always=each(MUON))
def test_an_update_has_the_norm_of_the_orthogonalised_matrix(subject, case):
    """Times the rate of its shape: without decay, from weights of 0."""
    declared, dtype = subject.conventions, either(subject, case.place)
    p, momentum, second = case.begin(dtype)
    g, settings = case.gradient(1, dtype), case.settings | {"weight_decay": 0.0, "t": 1}
    new, _, _ = subject.muon_step(np.zeros_like(p), g, momentum, second, **settings)
    state = [in_double(x) for x in (np.zeros_like(p), g, momentum, second)]
    how: dict[str, Any] = {"dtype": dtype, "scalars": declared.scalars, **settings, **declared.muon}
    (law, _, _) = muon_bounds.stepped(*state, **how)
    ahead, _ = muon.look_ahead(state[1], state[2], settings["mu"], 1, declared.muon_average)
    exact = {name: value for name, value in declared.orthogonal.items() if name != "arithmetic"}
    plain = muon.orthogonalize(ahead, **exact)
    rate = settings["lr"] * muon.scale_of(p.shape, declared.muon_scale)
    for place in np.ndindex(p.shape[:-2]):
        found, wanted = frobenius(new[place]), rate * frobenius(plain[place])
        said = f"an update of norm {found}, where the orthogonalised matrix times its rate has {wanted}"
        holds("MUON-10", abs(found - wanted) <= frobenius(law.bound[place]), said)


@checks("MUON-11", case=muon_cases(), always=each(MUON))
def test_without_a_gradient_only_decay_acts(subject, dtype, case):
    """As much as the reading says of an update of 0: where the signs are neither the same nor opposite."""
    declared = subject.conventions
    p, momentum, second = case.begin(dtype)
    new, after, _ = subject.muon_step(p, np.zeros_like(p), momentum, second, **case.settings, t=1)
    holds("MUON-11", not np.any(after), "the momentum of no gradient is not 0")
    scale = muon.scale_of(p.shape, declared.muon_scale)
    decay = case.settings["lr"], case.settings["weight_decay"], scale, declared.muon_decay
    law = bounds.worst_case(decayed_alone, in_double(p), *decay, dtype=dtype, scalars=declared.scalars)
    within("MUON-11", new, law, dtype)


def decayed_alone(p, lr, weight_decay, scale, decay):
    """The weights after an update of 0."""
    return muon.applied(p, np.zeros(p.shape), lr, weight_decay, scale, decay)


# ---- the schedules of momentum and decay


@checks("MUON-12", case=schedule_cases())
def test_the_momentum_rises_to_its_peak_within_the_run(subject, case):
    settings = case.momentum
    bound = bounds.learning_rate(peak=settings["peak"], floor=settings["start"] + settings["final"])
    for step in case.steps:
        law = Bounded(np.asarray(muon.momentum_at(step, **settings)), np.asarray(bound))
        got = [np.asarray(float(subject.momentum_at(step, **settings))) for _ in range(2)]
        within("MUON-12", got[0], law, np.float64)
        same_bytes("MUON-12", got[1], got[0], f"the momentum of update {step}, asked again")


@checks("MUON-13", case=schedule_cases())
def test_the_decay_falls_to_nothing_and_stays_there(subject, case):
    declared, initial, total = subject.conventions.muon_decay_schedule, case.decay, case.momentum["total"]
    bound = bounds.learning_rate(peak=initial, floor=0.0)
    for step in (*case.steps, total, total + 1, 2 * total):
        value = muon.weight_decay_at(step, initial=initial, total=total, schedule=declared)
        got = float(subject.weight_decay_at(step, initial=initial, total=total))
        within("MUON-13", np.asarray(got), Bounded(np.asarray(value), np.asarray(bound)), np.float64)
        holds("MUON-13", got >= 0.0, f"a decay of {got}")
