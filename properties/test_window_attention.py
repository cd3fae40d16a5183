"""Sliding-window attention: causal attention that forgets what is too far back, and its gradient."""

import numpy as np

from fixtures.objective_strategies import WINDOWS, windowed_cases
from fixtures.strategies import generators, normal
from properties.assertions import agrees, same_bytes
from properties.checks import checks
from properties.dtypes import to
from reference import window_attention as law


def seen(subject, case):
    """[B, 1, T, T]: which key each position may attend to, as the subject declares its window."""
    return law.window_mask(case.attention.key_mask, case.window, subject.conventions.window)


def asked(subject, case, x):
    """x [B, H, T, K] with zeros where nothing is asked: with an additive mask at positions that see nothing."""
    if subject.conventions.mask != "additive":
        return x
    return np.where(seen(subject, case).any(axis=-1)[..., None], x, x.dtype.type(0))


@checks("WIN-01", case=windowed_cases(), always=WINDOWS)
def test_window_attention_is_its_formula(subject, dtype, case):
    got = asked(subject, case, subject.window_attention(*to(dtype, *case.forward), case.window))
    how = {"dtype": dtype, "counted": subject.conventions.window}
    agrees("WIN-01", got, law.window_attention, *case.forward, case.window, **how)


@checks("WIN-02", case=windowed_cases(), seed=generators)
def test_a_key_outside_the_window_changes_nothing(subject, dtype, case, seed):
    """One key and its value are replaced: every position that may not attend to it keeps its bits."""
    q, k, v, key_mask = (np.array(x) for x in case.forward)
    place = int(seed.integers(k.shape[2]))
    for x in (k, v):
        x[:, :, place] = normal(seed, x[:, :, place].shape, 30.0)
    before = asked(subject, case, subject.window_attention(*to(dtype, *case.forward), case.window))
    after = asked(subject, case, subject.window_attention(*to(dtype, q, k, v, key_mask), case.window))
    blind = np.broadcast_to(~seen(subject, case)[..., place], before.shape[:3])
    same_bytes("WIN-02", after[blind], before[blind], f"output of what may not attend to key {place}")


@checks("WIN-03", case=windowed_cases(), always=WINDOWS)
def test_gradient_is_that_of_the_formula(subject, dtype, case):
    dout = asked(subject, case, case.attention.dout)
    dq, dk, dv = subject.window_attention_backward(*to(dtype, *case.forward), case.window, to(dtype, dout))
    how = {"dtype": dtype, "counted": subject.conventions.window}
    args = *case.forward, case.window, dout
    agrees("WIN-03", (asked(subject, case, dq), dk, dv), law.window_attention_backward, *args, **how)
