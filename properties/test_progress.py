"""Runs that are measured by time, the rate at a share of a run, and settings that follow its size."""

import json
import math
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from fixtures.control_strategies import trapezoids
from properties.assertions import holds, within
from properties.checks import checks
from reference import bounds, progress, scaling
from reference.arithmetic import DOUBLE

shares = st.one_of(st.sampled_from([0.0, 0.05, 0.25, 0.5, 1.0]), st.floats(0.0, 1.0), st.floats(-0.5, 2.0))
sixteenths = st.lists(st.integers(1, 40).map(lambda n: n / 16), min_size=1, max_size=14)
"""Seconds whose sums are exact."""
budgets = st.sampled_from([0.5, 2.0, 4.0, 100.0])


def rates(subject, points, shape):
    """The subject's rates at these shares."""
    return [float(subject.rate_by_progress(p, **shape)) for p in points]


def slack(shape):
    """Five roundings of numbers below peak + floor; near 1 - d a rounding of p moves the rate by peak u / d."""
    steepest = 1.0 / min([shape[k] for k in ("warmup", "warmdown") if shape[k]] or [1.0])
    return 8.0 * DOUBLE * (shape["peak"] + shape["floor"]) * (1.0 + steepest)


@checks("PROG-01", points=st.lists(shares, min_size=1, max_size=6), shape=trapezoids)
def test_the_rate_is_a_trapezoid_over_the_progress(subject, points, shape):
    inside = [min(max(p, 0.0), 1.0) for p in points]
    wanted = np.array([progress.rate_by_progress(p, **shape) for p in inside])
    expected = bounds.Bounded(wanted, np.full(len(inside), slack(shape)))
    within("PROG-01", np.array(rates(subject, inside, shape)), expected, np.float64)


@checks("PROG-02", points=st.lists(shares, min_size=2, max_size=8), shape=trapezoids)
def test_the_rate_is_never_negative_and_never_rises_again(subject, points, shape):
    """Beyond the end as well: a budget is overdrawn by its last update."""
    points = sorted([*points, 1.0, 1.5, 3.0])
    got = rates(subject, points, shape)
    found = f"{shape}: at {points}: {got}"
    holds("PROG-02", all(0.0 <= rate <= shape["peak"] + slack(shape) for rate in got), found)
    fall = [rate for p, rate in zip(points, got, strict=True) if p >= shape["warmup"]]
    holds("PROG-02", all(b <= a + slack(shape) for a, b in pairwise(fall)), found)


def followed(rule, subject, budget, excluded, seconds, cuts=()):
    """Progress before each update, and whether the run ends after it, as the oracle says; `cuts`: new processes."""
    again = subject.conventions.excluded_again
    right = progress.TimeBudget(budget, excluded, excluded_again=again)
    tried = subject.time_budget(budget, excluded)
    for number, duration in enumerate(seconds):
        if number in cuts:
            state = json.dumps(tried.state())
            tried = subject.time_budget(budget, excluded)
            tried.restore(json.loads(state))
            right.restore(right.state())
        said = f"{budget} s, {excluded} excluded, updates of {seconds} s, new processes at {sorted(cuts)}"
        holds(
            rule,
            float(tried.progress) == right.progress,
            f"{said}: update {number} at {tried.progress}, not {right.progress}",
        )
        tried.add(duration)
        right.add(duration)
        holds(
            rule,
            bool(tried.spent) == right.spent,
            f"{said}: after update {number} spent is {bool(tried.spent)}",
        )


@checks("PROG-03", budget=budgets, excluded=st.sampled_from([0, 1, 2, 10]), seconds=sixteenths)
def test_time_is_that_of_the_updates_before_but_for_the_first(subject, budget, excluded, seconds):
    followed("PROG-03", subject, budget, excluded, seconds)


@checks(
    "PROG-04",
    budget=budgets,
    excluded=st.sampled_from([0, 1, 2, 10]),
    seconds=sixteenths,
    cuts=st.sets(st.integers(0, 12), min_size=1, max_size=3),
)
def test_a_run_that_goes_on_has_used_what_it_has_used(subject, budget, excluded, seconds, cuts):
    followed("PROG-04", subject, budget, excluded, seconds, cuts)


SCALES = {"reference_tokens": 2.0**33, "lr": 0.02, "weight_decay": 0.1}
tokens = st.one_of(st.just(2.0**33), st.integers(20, 45).map(lambda n: 1.25 * 2.0**n), st.floats(1e6, 1e13))


@checks("BATCH-01", amount=tokens, batch=st.sampled_from([2**15, 2**19, 2**19 + 4096]))
def test_settings_follow_the_tokens_of_the_run(subject, amount, batch):
    shape = SCALES | {"reference_batch": batch}
    power = math.log2(batch) + scaling.EXPONENT * math.log2(amount / shape["reference_tokens"])
    if abs(power % 1.0 - 0.5) < 64.0 * DOUBLE * 64.0:  # half way, where a rounding of the logarithm decides
        amount *= 1.01
    wanted, got = scaling.scaled_settings(amount, **shape), subject.scaled_settings(amount, **shape)
    found = f"{amount:.6g} tokens, {shape}: got {got}, expected {wanted}"
    holds("BATCH-01", got.keys() == wanted.keys() and int(got["batch"]) == wanted["batch"], found)
    for name in ("lr", "weight_decay"):
        expected = bounds.Bounded(np.asarray(wanted[name]), np.asarray(16.0 * DOUBLE * wanted[name]))
        within("BATCH-01", np.float64(got[name]), expected, np.float64)
