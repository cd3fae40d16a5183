"""The best evaluation and early stopping, compared with the oracle after every evaluation."""

import json
import math

from fixtures.control_strategies import evaluations, tracker_settings
from properties.assertions import holds
from properties.checks import checks
from reference.tracker import Tracker


def oracle(subject, settings):
    """The oracle under the subject's conventions."""
    said = subject.conventions
    return Tracker(settings, patience=said.patience, ties=said.ties, non_finite=said.non_finite)


def followed(rule, subject, settings, values, told):
    """`told` of the subject's tracker and of the oracle after each evaluation, until it stops: they are equal."""
    tracker, right = subject.tracker(settings), oracle(subject, settings)
    for number, (step, value) in enumerate(values):
        got, expected = told(tracker, value, step), told(right, value, step)
        seen = [v for _, v in values[: number + 1]]
        holds(rule, got == expected, f"{settings}: after {seen}: got {got}, expected {expected}")
        if right.stop:
            return


def best(tracker, value, step):
    """Whether it says that this is the best, the best and its step."""
    better = bool(tracker.update(value, step))
    return better, tracker.best, tracker.best_step


def stops(tracker, value, step):
    """Whether the run ends here."""
    tracker.update(value, step)
    return bool(tracker.stop)


@checks("BEST-01", values=evaluations(), settings=tracker_settings)
def test_the_best_is_the_extreme_of_what_was_seen(subject, values, settings):
    finite = [(step, value) for step, value in values if math.isfinite(value)]
    followed("BEST-01", subject, settings | {"patience": None}, finite or [(1, 0.5)], best)


@checks("BEST-02", values=evaluations(), settings=tracker_settings)
def test_what_is_not_finite_is_never_the_best(subject, values, settings):
    """Before, between and after numbers: nothing is better than it, and it is better than nothing."""
    for first in (math.nan, math.inf, -math.inf):
        given = [(0, first), *[(step + 1, value) for step, value in values]]
        followed("BEST-02", subject, settings | {"patience": None}, given, best)


@checks("BEST-03", values=evaluations(), settings=tracker_settings)
def test_it_stops_when_patience_is_used_up(subject, values, settings):
    followed("BEST-03", subject, settings, values, stops)


@checks("BEST-04", values=evaluations(), settings=tracker_settings)
def test_a_restored_tracker_goes_on(subject, values, settings):
    """Saved after every evaluation, through JSON into a new one, which is saved again at once."""
    right, state = oracle(subject, settings), None
    for number, (step, value) in enumerate(values):
        tracker = subject.tracker(settings)
        for _ in range(2):
            if state is not None:
                tracker.restore(json.loads(state))
            state = json.dumps(tracker.state()) if state is not None else None
        got, expected = (*best(tracker, value, step), tracker.stop), (*best(right, value, step), right.stop)
        found = f"{settings}: evaluation {number + 1} of {[v for _, v in values]}, restored before it"
        holds("BEST-04", got == expected, f"{found}: got {got}, expected {expected}")
        state = json.dumps(tracker.state())
        again = subject.tracker(settings)
        again.restore(json.loads(state))
        got = again.best, again.best_step, bool(again.stop)
        expected = right.best, right.best_step, right.stop
        holds("BEST-04", got == expected, f"{found}: it came back as {got}, expected {expected}")
        if right.stop:
            return
