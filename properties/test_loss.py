"""Cross-entropy with a loss mask, and its gradient to the logits."""

import numpy as np
from hypothesis import strategies as st

from fixtures.explicit_cases import LOSSES, each
from fixtures.strategies import generators, loss_cases
from properties.assertions import agrees, holds, same_bytes, unsigned, within
from properties.checks import checks
from properties.dtypes import to
from reference import loss
from reference.arithmetic import unit_roundoff
from reference.bounds import Bounded
from reference.loss_bounds import cross_entropy


@checks("LOSS-01", case=loss_cases(), always=each(case for case in LOSSES if case.targets.size))
def test_loss_is_the_negative_log_likelihood(subject, dtype, case):
    """One predicted token, so that the reduction does not matter."""
    logits, targets = case.logits[:1, :1], case.targets[:1, :1]
    mask = np.ones((1, 1), dtype=bool)
    got = subject.cross_entropy(to(dtype, logits), targets, mask)[0]
    within("LOSS-01", got, cross_entropy(logits, targets, mask, dtype=dtype)[0], dtype)


@checks("LOSS-01", floor=2, size=st.sampled_from([1e4, 1e30, 1e38]))
def test_the_largest_logits_have_a_loss(subject, dtype, size):
    """log(e^s + 1 + e^-s) is s for so large a number: the losses are 0, s and 2 s, to a few roundings of s."""
    size = float(np.float32(size))
    mask = np.ones((1, 1), dtype=bool)
    for target, expected in enumerate((0.0, size, 2.0 * size)):
        logits = to(dtype, np.array([[[size, 0.0, -size]]]))
        got = subject.cross_entropy(logits, np.array([[target]]), mask)[0]
        bound = 8.0 * unit_roundoff(dtype) * size
        within("LOSS-01", got, Bounded(np.array(expected), np.array(bound)), dtype)


@checks("LOSS-03", case=loss_cases(), always=each(LOSSES))
def test_mean_divides_by_unmasked_tokens(subject, dtype, case):
    got = subject.cross_entropy(to(dtype, case.logits), case.targets, case.loss_mask)[0]
    args = case.logits, case.targets, case.loss_mask
    within("LOSS-03", got, cross_entropy(*args, dtype=dtype)[0], dtype)


@checks("LOSS-02", case=loss_cases(), always=each(LOSSES))
def test_gradient_is_softmax_minus_one_hot_per_token(subject, dtype, case):
    got = subject.cross_entropy(to(dtype, case.logits), case.targets, case.loss_mask)[1]
    expected = cross_entropy(case.logits, case.targets, case.loss_mask, dtype=dtype)
    within("LOSS-02", got, expected[1], dtype)


@checks("LOSS-04", case=loss_cases())
def test_nothing_to_predict_is_a_loss_of_zero(subject, dtype, case):
    nothing = np.zeros_like(case.loss_mask)
    got, gradient = subject.cross_entropy(to(dtype, case.logits), case.targets, nothing)
    holds("LOSS-04", float(got) == 0.0, f"got a loss of {got} for an all-masked batch, expected 0")
    holds("LOSS-04", not np.any(gradient), "the gradient of an all-masked batch is not 0 everywhere")


@checks("LOSS-05", case=loss_cases(), seed=generators)
def test_masked_positions_change_nothing(subject, dtype, case, seed):
    masked = ~case.loss_mask
    logits, targets = case.logits.copy(), case.targets.copy()
    logits[masked] = seed.choice([-1e4, 0.0, 1e4, 1e30], logits[masked].shape)
    targets[masked] = seed.integers(0, logits.shape[-1], targets[masked].shape)
    before = subject.cross_entropy(to(dtype, case.logits), case.targets, case.loss_mask)
    after = subject.cross_entropy(to(dtype, logits), targets, case.loss_mask)
    same_bytes("LOSS-05", np.float64(after[0]), np.float64(before[0]), "loss with other masked content")
    same_bytes("LOSS-05", unsigned(after[1]), unsigned(before[1]), "gradient with other masked content")
    holds("LOSS-05", not np.any(before[1][masked]), "a masked position has a gradient that is not 0")


@checks("LOSS-05", case=loss_cases())
def test_an_infinite_logit_at_a_masked_position_is_ignored(subject, dtype, case):
    logits = case.logits.copy()
    logits[~case.loss_mask, 0] = np.inf
    before = subject.cross_entropy(to(dtype, case.logits), case.targets, case.loss_mask)[0]
    after = subject.cross_entropy(to(dtype, logits), case.targets, case.loss_mask)[0]
    same_bytes("LOSS-05", np.float64(after), np.float64(before), "loss with inf at masked positions")


@checks("LOSS-06", case=loss_cases(), shift=st.sampled_from([4096.0, -512.0]))
def test_a_constant_added_to_the_logits_changes_nothing(subject, dtype, case, shift):
    """The logits are multiples of 1/64, so that the shift is added without rounding."""
    logits = np.round(np.clip(case.logits, -64.0, 64.0) * 64.0) / 64.0
    got = subject.cross_entropy(to(dtype, logits + shift), case.targets, case.loss_mask)
    expected = cross_entropy(logits, case.targets, case.loss_mask, dtype=dtype)
    shifted = cross_entropy(logits + shift, case.targets, case.loss_mask, dtype=dtype)
    allowed = [Bounded(e.value, np.maximum(e.bound, s.bound)) for e, s in zip(expected, shifted, strict=True)]
    within("LOSS-06", got, allowed, dtype)


@checks("LOSS-07", case=loss_cases(), cut=st.integers(0, 4))
def test_micro_batches_weighted_by_tokens_add_up(subject, dtype, case, cut):
    """Two micro-batches against the whole batch, under the sum of the bounds of the three calls."""
    args = case.logits, case.targets, case.loss_mask
    tokens = max(int(case.loss_mask.sum()), 1)
    whole = cross_entropy(*args, dtype=dtype)
    total, total_bound = 0.0, whole[0].bound
    gradient, gradient_bound = np.zeros(case.logits.shape), whole[1].bound
    for rows in (slice(cut), slice(cut, None)):
        part = tuple(x[rows] for x in args)
        if len(part[0]):
            share = int(part[2].sum()) / tokens
            allowed = cross_entropy(*part, dtype=dtype)
            got = subject.cross_entropy(*to(dtype, *part))
            total += share * float(got[0])
            total_bound = total_bound + share * allowed[0].bound
            gradient[rows] = share * np.asarray(got[1], dtype=np.float64)
            gradient_bound[rows] += share * allowed[1].bound
    expected = Bounded(whole[0].value, total_bound), Bounded(whole[1].value, gradient_bound)
    within("LOSS-07", (total, gradient), expected, dtype)


@checks("LOSS-08", case=loss_cases(), seed=generators)
def test_rows_have_no_order(subject, dtype, case, seed):
    order = seed.permutation(len(case.logits))
    got = subject.cross_entropy(*to(dtype, case.logits[order], case.targets[order], case.loss_mask[order]))
    expected = cross_entropy(case.logits, case.targets, case.loss_mask, dtype=dtype)
    within("LOSS-08", (got[0], np.asarray(got[1])[np.argsort(order)]), expected, dtype)


@checks("LOSS-09", case=loss_cases(), always=each(LOSSES))
def test_softmax_is_its_formula(subject, dtype, case):
    agrees("LOSS-09", subject.softmax(to(dtype, case.logits)), loss.softmax, case.logits, dtype=dtype)
