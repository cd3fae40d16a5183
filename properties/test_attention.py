"""Causal attention with a key mask, and its gradient."""

import numpy as np
from hypothesis import strategies as st

from fixtures.explicit_cases import ATTENTIONS, each
from fixtures.strategies import attention_cases, generators, normal
from properties.assertions import agrees, holds, not_offered, same_bytes
from properties.checks import checks
from properties.dtypes import to
from reference import attention


def forward_arguments(case):
    """The arguments of `attention`."""
    return case.q, case.k, case.v, case.key_mask


def backward_arguments(case):
    """The arguments of `attention_backward`."""
    return *forward_arguments(case), case.dout


def sees_nothing(key_mask):
    """[B, T]: whether every key at or before this position is masked."""
    return ~np.logical_or.accumulate(key_mask, axis=1)


def not_seen(subject, key_mask):
    """[B, T]: positions of whose output nothing is asked: with an additive mask those that see nothing."""
    return sees_nothing(key_mask) if subject.conventions.mask == "additive" else np.zeros_like(key_mask)


def without(x, positions):
    """x [B, H, T, K] with zeros at these positions [B, T]."""
    return np.where(positions[:, None, :, None], x.dtype.type(0), x)


@checks("ATT-01", case=attention_cases(), always=each(ATTENTIONS))
def test_attention_is_its_formula(subject, dtype, case):
    args = forward_arguments(case)
    got = without(subject.attention(*to(dtype, *args)), not_seen(subject, case.key_mask))
    agrees("ATT-01", got, attention.attention, *args, dtype=dtype)


@checks("ATT-02", case=attention_cases(), always=each(ATTENTIONS))
def test_gradient_is_that_of_the_formula(subject, dtype, case):
    blind = not_seen(subject, case.key_mask)
    args = *forward_arguments(case), without(case.dout, blind)
    dq, dk, dv = subject.attention_backward(*to(dtype, *args))
    agrees("ATT-02", (without(dq, blind), dk, dv), attention.attention_backward, *args, dtype=dtype)


@checks(
    "ATT-03",
    case=attention_cases(),
    seed=generators,
    cut=st.integers(0, 6),
    always=each(ATTENTIONS, seed=np.random.default_rng(0), cut=63),
)
def test_later_positions_change_nothing_earlier(subject, dtype, case, seed, cut):
    cut = min(cut, case.q.shape[2] - 1)
    q, k, v = (x.copy() for x in (case.q, case.k, case.v))
    for x in (q, k, v):
        x[:, :, cut + 1 :] = normal(seed, x[:, :, cut + 1 :].shape, 30.0)
    blind = not_seen(subject, case.key_mask)
    before = without(subject.attention(*to(dtype, *forward_arguments(case))), blind)
    after = without(subject.attention(*to(dtype, q, k, v, case.key_mask)), blind)
    same_bytes("ATT-03", after[:, :, : cut + 1], before[:, :, : cut + 1], f"output up to position {cut}")


@checks(
    "ATT-04",
    case=attention_cases(),
    seed=generators,
    always=each(ATTENTIONS, seed=np.random.default_rng(0)),
)
def test_masked_keys_change_nothing(subject, dtype, case, seed):
    masked = ~case.key_mask
    k, v = case.k.copy(), case.v.copy()
    for x in (k, v):
        x.swapaxes(1, 2)[masked] = normal(seed, x.swapaxes(1, 2)[masked].shape, 30.0)
    blind = not_seen(subject, case.key_mask)
    before = without(subject.attention(*to(dtype, *forward_arguments(case))), blind)
    after = without(subject.attention(*to(dtype, case.q, k, v, case.key_mask)), blind)
    same_bytes("ATT-04", after, before, "output with other masked keys and values")


@checks("ATT-04", case=attention_cases())
def test_masked_keys_get_no_gradient(subject, dtype, case):
    dout = without(case.dout, not_seen(subject, case.key_mask))
    _, dk, dv = subject.attention_backward(*to(dtype, *forward_arguments(case), dout))
    masked = ~case.key_mask
    for name, gradient in (("dk", dk), ("dv", dv)):
        holds("ATT-04", not gradient.swapaxes(1, 2)[masked].any(), f"{name} of a masked key is not 0")


@checks("ATT-05", case=attention_cases())
def test_a_position_that_sees_nothing_gives_zeros(subject, dtype, case):
    if subject.conventions.mask != "select":
        not_offered("a mask that is added to the scores is declared")
    without_keys = sees_nothing(case.key_mask)
    out = subject.attention(*to(dtype, *forward_arguments(case)))
    dq, _, _ = subject.attention_backward(*to(dtype, *backward_arguments(case)))
    for name, x in (("output", out), ("dq", dq)):
        holds(
            "ATT-05",
            not x.swapaxes(1, 2)[without_keys].any(),
            f"{name} of a position that sees nothing is not 0",
        )
