"""The learning rate of every update."""

from itertools import pairwise

import numpy as np
from hypothesis import given

from fixtures.strategies import schedules
from properties.assertions import holds, within
from reference import bounds, schedule


def rates(subject, case, beyond=3):
    return [float(subject.learning_rate(step, **case.arguments)) for step in range(case.total + beyond)]


@given(case=schedules())
def test_rates_are_the_table(subject, case):
    expected = np.array([schedule.learning_rate(s, **case.arguments) for s in range(case.total + 3)])
    bound = np.full(expected.shape, bounds.learning_rate(peak=case.peak, floor=case.floor))
    within("SCHED-01", np.array(rates(subject, case)), bounds.Bounded(expected, bound), np.float64)


@given(case=schedules())
def test_the_shape_has_one_peak_and_ends_on_the_floor(subject, case):
    got = rates(subject, case)
    used, slack = got[: case.total], bounds.learning_rate(peak=case.peak, floor=case.floor)
    warm = min(case.warmup, case.total)
    near_peak = [s for s, rate in enumerate(used) if abs(rate - case.peak) <= slack]
    holds("SCHED-02", all(rate > 0.0 for rate in used[:-1]), f"an update has a rate of 0: {used}")
    holds(
        "SCHED-02",
        near_peak == ([warm - 1] if warm else []),
        f"the peak is used at steps {near_peak}: {used}",
    )
    falling = got[max(warm - 1, 0) :]
    rises = any(b > a + slack for a, b in pairwise(falling))
    holds("SCHED-02", not rises, f"the rate rises after the peak: {got}")
    holds("SCHED-02", got[case.total :] == [case.floor] * 3, f"after the last update: {got[case.total :]}")
    if case.total > warm:
        last = used[-1]
        holds("SCHED-02", abs(last - case.floor) <= slack, f"the last update has {last}, not {case.floor}")
