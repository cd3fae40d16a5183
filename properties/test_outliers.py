"""Losses that are out of line: the z-score among the last ones, and what is not finite."""

import json
import math

from hypothesis import strategies as st

from fixtures.control_strategies import losses_in_time
from properties.assertions import holds
from properties.checks import checks
from reference.outliers import OutlierDetector


def oracle(subject, window, threshold):
    """The oracle under the subject's conventions."""
    said = subject.conventions
    return OutlierDetector(
        window, threshold, outlier_window=said.outlier_window, deviation=said.outlier_deviation
    )


def told(rule, subject, case, values, resumed_at=-1):
    """What the subject says of each loss is what the oracle says, whatever came before."""
    window, threshold, _ = case
    detector, right = subject.outlier_detector(window, threshold), oracle(subject, window, threshold)
    for number, value in enumerate(values):
        if number == resumed_at:
            state = json.dumps(detector.state())
            detector = subject.outlier_detector(window, threshold)
            detector.restore(json.loads(state))
        if right.undecided(value):
            return
        got, expected = bool(detector.update(value)), right.update(value)
        seen = f"window {window}, threshold {threshold}: {value} after {values[:number]}"
        holds(rule, got == expected, f"{seen}: got {got}, expected {expected}")


@checks("SPIKE-01", case=losses_in_time())
def test_a_loss_is_out_of_line_by_its_z_score(subject, case):
    told("SPIKE-01", subject, case, [x for x in case[2] if math.isfinite(x)] or [1.0])


@checks("SPIKE-02", case=losses_in_time(), at=st.integers(0, 6))
def test_what_is_not_finite_is_out_of_line_and_leaves_no_trace(subject, case, at):
    """A NaN, then an infinity of either sign, at the start, while the window fills, and after that."""
    values = [x for x in case[2] if math.isfinite(x)]
    told(
        "SPIKE-02",
        subject,
        case,
        [*values[:at], math.nan, math.inf, -math.inf, *values[at:], math.nan, 100.0],
    )


@checks("SPIKE-03", case=losses_in_time(), at=st.integers(1, 19))
def test_a_restored_detector_goes_on(subject, case, at):
    values = [*case[2], 100.0]
    told("SPIKE-03", subject, case, values, min(at, len(values) - 1))
