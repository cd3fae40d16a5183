"""The laws of what steers a run, on cases that were worked out by hand."""

from typing import Any

import numpy as np
import pytest

from reference.averages import LossAverage, WeightAverage, averaged, interpolated
from reference.events import run_length, schedule_of_events
from reference.outliers import OutlierDetector
from reference.progress import TimeBudget, rate_by_progress
from reference.scaling import scaled_settings
from reference.tracker import Tracker

NAN = float("nan")
RUN = {"steps": 5, "epochs": None, "batches": 9, "accumulate": 2, "start": 0}
RUN |= {"eval_every": 2, "sample_every": -1, "save_every": 3}


def taken(values, after=None, mode="min", min_delta=0.0, **conventions):
    """The tracker after these evaluations, which stop when it does; and how many it took."""
    tracker = Tracker({"mode": mode, "patience": after, "min_delta": min_delta}, **conventions)
    for step, value in enumerate(values):
        tracker.update(value, step)
        if tracker.stop:
            return tracker, step + 1
    return tracker, len(values)


@pytest.mark.parametrize(("patience", "convention", "evaluations"), [(2, "reached", 3), (1, "exceeded", 3)])
def test_patience(patience, convention, evaluations):
    assert taken([0.5, 0.6, 0.6, 0.6], patience, patience=convention)[1] == evaluations


def test_what_is_not_finite_is_no_best():
    tracker, _ = taken([NAN, 2.0, NAN, 1.0, float("-inf")])
    assert (tracker.best, tracker.best_step, tracker.waited) == (1.0, 3, 1)
    assert taken([1.0, NAN, 0.5], non_finite="stops")[1] == 2


def test_ties_modes_and_what_an_improvement_must_exceed():
    assert taken([0.0, 1.0, 0.0])[0].best_step == 0
    assert taken([0.0, 1.0, 0.0], ties="last")[0].best_step == 2
    assert taken([-3.0, -2.0], mode="max")[0].best == -2.0
    assert taken([1.0, 0.75, 0.5], min_delta=0.25)[0].best_step == 2


def test_events_of_a_run_and_of_its_rest():
    whole = schedule_of_events(RUN)
    assert [u for u, kind in whole if kind == "evaluate"] == [2, 4, 5]
    assert [u for u, kind in whole if kind == "save"] == [3, 5]
    assert not [u for u, kind in whole if kind == "sample"]
    assert schedule_of_events(RUN | {"start": 3}) == [event for event in whole if event[0] > 3]
    assert schedule_of_events(RUN | {"start": 5}) == []
    early = schedule_of_events(RUN | {"start": 4}, first_evaluation="at the start")
    assert early[0] == (4, "evaluate")


@pytest.mark.parametrize(("leftover", "updates"), [("update", 10), ("drop", 8), ("carry", 9)])
def test_the_length_of_a_run_in_epochs(leftover, updates):
    assert run_length(RUN | {"steps": None, "epochs": 2}, leftover=leftover) == updates
    assert run_length(RUN | {"epochs": 2}, leftover=leftover) == 5


@pytest.mark.parametrize("start", ["copy", "debiased"])
def test_both_formulas_are_the_average(start):
    values = [np.array([1.0, -2.0]), np.array([3.0, 4.0]), np.array([0.5, 8.0])]
    average = WeightAverage(0.75, start)
    for x in values:
        average.update({"w": x})
    by_hand = {"copy": [1.25, 1.625], "debiased": [53 / 37, 158 / 37]}[start]
    for found in (
        averaged(values, 0.75, start),
        interpolated(values, 0.75, start),
        average.parameters()["w"],
    ):
        assert np.array_equal(np.round(found, 12), np.round(by_hand, 12))


def test_the_first_loss_is_its_own_average():
    average = LossAverage(0.5)
    assert [average.update(x) for x in (4.0, 4.0, 0.0)] == [4.0, 4.0, 12.0 / 7.0]


def test_a_time_budget_leaves_out_as_many_updates_as_it_says():
    """31 updates of a second, 10 left out, 20 seconds: the thirtieth is the last, and had a progress of 0.95."""
    budget, seen = TimeBudget(20.0, 10), []
    while not budget.spent:
        seen.append(budget.progress)
        budget.add(1.0)
    assert len(seen) == 30 and seen[:11] == [0.0] * 11 and seen[11] == 0.05 and seen[-1] == 0.95


def test_a_run_that_goes_on_leaves_out_its_first_updates_if_that_is_declared():
    for again, seconds in (("run", 3.0), ("process", 1.0)):
        budget = TimeBudget(9.0, 2, excluded_again=again)
        for _ in range(3):
            budget.add(1.0)
        budget.restore(budget.state())
        budget.add(1.0)
        budget.add(1.0)
        assert budget.progress * 9.0 == seconds


def test_the_rate_at_a_share_of_a_run():
    shape = {"peak": 1.0, "floor": 0.0, "warmup": 0.0, "warmdown": 0.5}
    rates = [rate_by_progress(p, **shape) for p in (-1.0, 0.0, 0.5, 0.75, 1.0, 7.0)]
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    assert rate_by_progress(1.0, peak=1.0, floor=0.0, warmup=0.0, warmdown=0.0) == 1.0
    assert rate_by_progress(0.125, peak=1.0, floor=0.0, warmup=0.25, warmdown=0.5) == 0.5


def test_a_loss_in_its_own_window_is_never_far_away():
    """z is at most (n - 1) / sqrt(n): 1.79 for 5."""
    values = [1.0, 1.0, 1.0, 1.0, 1.0, 1e6, NAN, 1e9]
    before, within = OutlierDetector(5, 1.8), OutlierDetector(5, 1.8, outlier_window="with")
    assert [before.update(x) for x in values] == [False] * 5 + [True, True, True]
    assert [within.update(x) for x in values] == [False] * 6 + [True, False]


def test_settings_are_those_of_the_reference_at_the_reference():
    shape: dict[str, Any] = {
        "reference_tokens": 2.0**33,
        "reference_batch": 2**19,
        "lr": 0.02,
        "weight_decay": 0.1,
    }
    assert scaled_settings(2.0**33, **shape) == {"batch": 2**19, "lr": 0.02, "weight_decay": 0.1}
    four = scaled_settings(2.0**38, **shape)
    assert four == {"batch": 2**21, "lr": 0.04, "weight_decay": 0.1 * 2.0 / 32.0}
