"""What is minimised beside the cross-entropy: label smoothing, the z-loss, capped logits."""

import numpy as np
from hypothesis import strategies as st

from fixtures.objective_strategies import CAPPED, LARGEST, cap_cases, objective_cases, objectives
from fixtures.strategies import generators
from properties.assertions import agrees, holds, same_bytes, unsigned, within
from properties.checks import checks
from properties.dtypes import to
from reference import training_loss as law
from reference.arithmetic import unit_roundoff
from reference.bounds import Bounded

POISONS = (np.inf, np.nan, -np.inf, 1e30, 0.0)
"""What stands in the logits of positions that are not predicted."""


def expected(subject, dtype, arguments, options):
    """(objective, cross-entropy, gradient) with their bounds."""
    scalars = subject.conventions.scalars
    return law.bounded_training_loss(*arguments, dtype=dtype, scalars=scalars, **options)


@checks(
    "OBJ-01",
    case=objective_cases(z_loss=0.0, softcap=0.0),
    always=objectives(z_loss=0.0, softcap=0.0),
)
def test_smoothing_is_a_mixture_with_the_uniform_distribution(subject, dtype, case):
    got = subject.training_loss(*to(dtype, *case.arguments), **case.options)
    within("OBJ-01", got[0], expected(subject, dtype, case.arguments, case.options)[0], dtype)


@checks(
    "OBJ-02",
    case=objective_cases(label_smoothing=0.0, softcap=0.0),
    always=objectives(label_smoothing=0.0, softcap=0.0),
)
def test_the_z_loss_is_the_square_of_the_log_partition(subject, dtype, case):
    got = subject.training_loss(*to(dtype, *case.arguments), **case.options)
    within("OBJ-02", got[0], expected(subject, dtype, case.arguments, case.options)[0], dtype)


@checks("OBJ-03", case=objective_cases(), always=objectives())
def test_the_reported_cross_entropy_has_neither(subject, dtype, case):
    got = subject.training_loss(*to(dtype, *case.arguments), **case.options)
    within("OBJ-03", got[1], expected(subject, dtype, case.arguments, case.options)[1], dtype)


@checks("OBJ-04", case=objective_cases(), always=[*objectives(), *objectives(softcap=0.0, z_loss=1.0)])
def test_the_gradient_is_that_of_the_objective(subject, dtype, case):
    got = subject.training_loss(*to(dtype, *case.arguments), **case.options)
    wanted = expected(subject, dtype, case.arguments, case.options)
    within("OBJ-04", (got[0], got[2]), (wanted[0], wanted[2]), dtype)


@checks("OBJ-05", case=objective_cases(), seed=generators, poison=st.sampled_from(POISONS))
def test_what_is_masked_changes_nothing(subject, dtype, case, seed, poison):
    logits, targets, mask = case.arguments
    other, others = logits.copy(), targets.copy()
    other[~mask] = poison
    others[~mask] = seed.integers(0, logits.shape[-1], others[~mask].shape)
    before = subject.training_loss(*to(dtype, logits, targets, mask), **case.options)
    after = subject.training_loss(*to(dtype, other, others, mask), **case.options)
    for what, a, b in zip(("objective", "cross-entropy"), after, before, strict=False):
        same_bytes("OBJ-05", np.float64(a), np.float64(b), f"{what} with {poison} at masked positions")
    if np.isfinite(poison):  # autograd of a softmax of infinities is NaN in the row itself, in every library
        same_bytes(
            "OBJ-05", unsigned(after[2]), unsigned(before[2]), f"gradient with {poison} at masked ones"
        )
    holds("OBJ-05", not np.any(before[2][~mask]), "a masked position has a gradient that is not 0")


@checks("OBJ-06", case=objective_cases(), cut=st.integers(0, 4))
def test_micro_batches_add_up_with_every_term(subject, dtype, case, cut):
    """Two micro-batches weighted by their tokens against the whole, under the sum of the bounds of the three calls."""
    arguments, mask = case.arguments, case.arguments[2]
    tokens = max(int(mask.sum()), 1)
    value, _, gradient = expected(subject, dtype, arguments, case.options)
    total, total_bound = 0.0, value.bound
    whole, whole_bound = np.zeros(gradient.value.shape), gradient.bound
    for rows in (slice(cut), slice(cut, None)):
        part = tuple(x[rows] for x in arguments)
        if len(part[0]):
            share = int(part[2].sum()) / tokens
            allowed = expected(subject, dtype, part, case.options)
            got = subject.training_loss(*to(dtype, *part), **case.options)
            total += share * float(got[0])
            total_bound = total_bound + share * allowed[0].bound
            whole[rows] = share * np.asarray(got[2], dtype=np.float64)
            whole_bound[rows] += share * allowed[2].bound
    within(
        "OBJ-06",
        (total, whole),
        (Bounded(value.value, total_bound), Bounded(gradient.value, whole_bound)),
        dtype,
    )


@checks("CAP-01", case=cap_cases(), always=CAPPED)
def test_a_capped_logit_is_never_beyond_the_cap(subject, dtype, case):
    x = to(dtype, case.x)
    got = subject.softcap(x, case.cap, case.scale)
    agrees("CAP-01", got, law.softcap, case.x, case.cap, case.scale, dtype=dtype)
    # tanh of a correct library is at most 1, and a product with the cap rounds once.
    largest = case.cap * (1.0 + unit_roundoff(dtype))
    holds("CAP-01", np.all(np.abs(got) <= largest), f"a capped logit is beyond {case.cap}")


@checks("CAP-02", case=cap_cases(), always=CAPPED)
def test_the_gradient_of_a_capped_logit(subject, dtype, case):
    got = subject.softcap_backward(to(dtype, case.x), case.cap, case.scale, to(dtype, case.dy))
    agrees("CAP-02", got, law.softcap_backward, case.x, case.cap, case.scale, case.dy, dtype=dtype)


@checks("OBJ-07", case=objective_cases(softcap=15.0), always=objectives(LARGEST, softcap=2.0))
def test_the_soft_cap_is_part_of_the_objective(subject, dtype, case):
    got = subject.training_loss(*to(dtype, *case.arguments), **case.options)
    within("OBJ-07", got, expected(subject, dtype, case.arguments, case.options), dtype)
