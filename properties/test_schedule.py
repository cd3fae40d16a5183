"""The learning-rate schedule: warm-up and cosine decay."""

import math
from itertools import pairwise

import numpy as np

from fixtures.explicit_cases import SCHEDULES, each
from fixtures.strategies import schedules
from properties.assertions import holds, not_offered, within
from properties.checks import checks
from reference import bounds, schedule
from reference.arithmetic import unit_roundoff


def steps(subject, case, beyond=3):
    """Steps at which the declared schedule is defined, up to `beyond` steps after the last update."""
    table = subject.conventions.schedule
    shape = {"warmup": case.warmup, "total": case.total, "schedule": table}
    return [s for s in of_interest(case, case.total + beyond) if schedule.defined(s, **shape)]


FEW_STEPS = 50


def of_interest(case, end):
    """Every step below `end` of a short run; of a long one those around its edges and around powers of two."""
    if end <= FEW_STEPS:
        return range(end)
    places = [0, case.warmup, case.warmup + (case.total - case.warmup) // 2, case.total]
    places += [2**power for power in range(end.bit_length())]
    return sorted({s for place in places for s in range(place - 2, place + 3) if 0 <= s < end})


def bound(subject, case):
    """Error bound of any rate of the case; a cosine that continues after the horizon has larger angles."""
    shape = {"warmup": case.warmup, "total": case.total, "schedule": subject.conventions.schedule}
    half_turns = [schedule.progress(s, **shape) for s in steps(subject, case)]
    unit = unit_roundoff(np.float32 if subject.conventions.scalars == "dtype" else np.float64)
    finite = [abs(turn) for turn in half_turns if math.isfinite(turn)]
    step_by_step = case.total > FEW_STEPS and subject.conventions.scalars != "dtype"
    updates = case.total if step_by_step else 1
    return bounds.learning_rate(
        peak=case.peak, floor=case.floor, half_turns=max(finite, default=1.0), unit=unit, updates=updates
    )


def rates(subject, case):
    """The subject's learning rate at each of `steps`."""
    return [float(subject.learning_rate(step, **case.arguments)) for step in steps(subject, case)]


@checks("SCHED-01", case=schedules(), always=each(SCHEDULES))
def test_rates_are_the_table(subject, case):
    table = subject.conventions.schedule
    expected = [schedule.learning_rate(s, **case.arguments, schedule=table) for s in steps(subject, case)]
    allowed = bounds.Bounded(np.array(expected), np.full(len(expected), bound(subject, case)))
    within("SCHED-01", np.array(rates(subject, case)), allowed, np.float64)


@checks("SCHED-02", case=schedules())
def test_the_rate_rises_to_one_peak_and_falls_to_the_floor(subject, case):
    """Every declared schedule does so up to its horizon."""
    used, slack = rates(subject, case)[: case.total], bound(subject, case)
    high = all(rate <= case.peak + slack for rate in used)
    holds("SCHED-02", high and all(rate >= 0.0 for rate in used), f"a rate outside 0 .. {case.peak}: {used}")
    rises = [b > a + slack for a, b in pairwise(used)]
    holds("SCHED-02", rises == sorted(rises, reverse=True), f"the rate rises again after falling: {used}")


@checks("SCHED-02", case=schedules())
def test_no_update_is_wasted_and_none_follows_the_last(subject, case):
    """The default schedule: the first rate is above 0, the peak is used once, the last update has the floor."""
    if subject.conventions.schedule != "honestloop":
        not_offered("another schedule is declared")
    got = rates(subject, case)
    used, slack = got[: case.total], bound(subject, case)
    warm = min(case.warmup, case.total)
    near_peak = [s for s, rate in enumerate(used) if abs(rate - case.peak) <= slack]
    holds("SCHED-02", all(rate > 0.0 for rate in used[:-1]), f"an update has a rate of 0: {used}")
    once = near_peak == ([warm - 1] if warm else [])
    holds("SCHED-02", once, f"the peak is used at steps {near_peak}: {used}")
    holds("SCHED-02", got[case.total :] == [case.floor] * 3, f"after the last update: {got[case.total :]}")
    if case.total > warm:
        last = used[-1]
        holds("SCHED-02", abs(last - case.floor) <= slack, f"the last update has {last}, not {case.floor}")
