"""Speed, time left, cost and the profile of a step, on clocks that the test holds."""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from fixtures.evaluation_strategies import spans_of_a_step, timed_steps
from properties.assertions import agrees, holds
from properties.checks import checks
from reference import speed as oracle

DONE = st.sampled_from([0, 3, 10, 800])


@checks("SPEED-01", steps=timed_steps(), excluded=st.integers(0, 3), done=DONE)
def test_speed_is_that_of_the_timed_steps(subject, steps, excluded, done):
    total = done + len(steps) + 5
    got = subject.tokens_per_second(steps, excluded=excluded, done=done, total=total)
    if len(steps) <= excluded:
        holds("SPEED-01", tuple(got) == (None, None), f"no step was timed, and the speed is {got}")
    else:
        agrees("SPEED-01", got[0], speed, steps, excluded, dtype=np.float64)


def speed(steps, excluded):
    """Tokens a second alone."""
    return oracle.tokens_per_second(steps, excluded=excluded, done=0, total=0)[0]


def left(steps, excluded, done, total):
    """Seconds left alone."""
    return oracle.tokens_per_second(steps, excluded=excluded, done=done, total=total)[1]


@checks(
    "SPEED-02", steps=timed_steps(), excluded=st.integers(0, 3), done=DONE, more=st.sampled_from([0, 1, 1600])
)
def test_what_is_left_takes_as_long_a_step_as_what_was_timed(subject, steps, excluded, done, more):
    assume(len(steps) > excluded)
    total = done + len(steps) + more
    got = subject.tokens_per_second(steps, excluded=excluded, done=done, total=total)
    agrees("SPEED-02", got[1], left, steps, excluded, done, total, dtype=np.float64)


@checks(
    "COST-01",
    seconds=st.lists(st.sampled_from([0.0, 60.0, 1188.0, 3000.0, 5400.0, 9000.0]), max_size=4),
    price=st.sampled_from([0.55, 1.2, 3.0]),
    devices=st.integers(1, 8),
)
def test_a_run_costs_the_hours_of_all_its_processes(subject, seconds, price, devices):
    got = subject.cost(seconds, price=price, devices=devices)
    billed = subject.conventions.billing
    if not any(seconds):
        holds("COST-01", got == 0, f"no time costs {got}, expected 0")
        return

    def law(seconds, price):
        return oracle.cost(seconds, price=price, devices=devices, billed=billed)

    agrees("COST-01", got, law, seconds, price, dtype=np.float64)


@checks("PROF-01", step=spans_of_a_step())
def test_the_shares_of_a_step_sum_to_one(subject, step):
    spans, began, ended = step
    got = subject.step_profile(spans, began, ended)
    shares = {name: float(x) for name, x in got.items()}
    agrees("PROF-01", shares, oracle.step_profile, spans, began, ended, dtype=np.float64)
    negative = [name for name, share in shares.items() if share < 0.0]
    holds("PROF-01", not negative, f"shares below 0: {negative} of {shares}")
    agrees("PROF-01", sum(shares.values()), whole, spans, began, ended, dtype=np.float64)


def whole(spans, began, ended):
    """The sum of all shares, with the roundings of their sum: 1 but for those."""
    return sum(oracle.step_profile(spans, began, ended).values())
