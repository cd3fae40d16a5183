"""Parameters of 16 bits: the law's bounds, the PyTorch subjects, and what is graded where nothing is declared."""

from typing import Any

import numpy as np
import pytest

from fixtures.mixed_strategies import steady_case
from fixtures.subjects import reference
from honestloop.conventions import Conventions
from honestloop.protocol import Subject
from properties import strength
from properties.checks import all_properties
from properties.property_record import Record
from reference.arithmetic import HALVES, unit_roundoff
from reference.mixed_precision import holds_numbers_of, mixed_clip_by_global_norm, rounded
from reference.mixed_training import TracedMixedTrainer
from reference.running_error import RunningErrorArray
from reference.training_bounds import bounded

MIXED = {test: prop for test, prop in all_properties().items() if test.startswith("test_mixed_precision")}


def refusals(subject, examples=4):
    """(rules that were asserted, messages of refusals)."""
    asserted, refused = set(), []
    for test, prop in MIXED.items():
        record = Record(examples)
        if found := strength.grade(prop, subject, {}, test, record):
            refused.append(found[1].message)
        asserted |= set(record.executed)
    return asserted, refused


@pytest.mark.parametrize(("name", "rules"), [("pytorch", 6), ("pytorch_master", 7)])
def test_pytorch_passes(name, rules):
    asserted, refused = refusals(Subject(f"fixtures.subjects.{name}"))
    assert not refused
    assert len({rule for rule in asserted if rule.startswith("MIX")}) >= rules


def test_without_a_half_type_float32_and_float64_are_mixed_and_no_loop_is_asked():
    subject = Subject.of("wide", reference.functions(Conventions()), Conventions())
    asserted, refused = refusals(subject)
    assert not refused
    assert asserted == {"MIX-01", "MIX-02", "MIX-03", "MIX-04", "MIX-05"}


@pytest.mark.parametrize("form", HALVES)
def test_rounding_adds_half_an_ulp_to_the_bound(form):
    x, single = np.array([1.0, -1.9, 3e-3]), np.array([1.0, -1.9, 3e-3], np.float32)
    exact: Any = RunningErrorArray.exact(x, 2.0**-24)
    traced: Any = rounded(exact, form)
    assert np.all(np.abs(rounded(single, form) - x) <= traced.error + 2.0**-24)
    assert np.all(traced.error <= 1.01 * HALVES[form] * np.abs(x) + 2.0**-24)
    assert holds_numbers_of(rounded(single, form), form)
    assert not holds_numbers_of(single, form)


def test_the_sum_of_squares_beyond_the_range_of_float16_is_a_number():
    gradients = [np.full(9, 300.0, np.float32), np.full(4, 3e4, np.float32)]
    _, norm = mixed_clip_by_global_norm(gradients, ["float16", "bfloat16"], 1.0)
    assert float(norm) == pytest.approx(np.sqrt(9 * 9e4 + 4 * 9e8), rel=1e-12)


@pytest.mark.parametrize("form", HALVES)
def test_many_small_updates_exceed_the_bound_of_a_loop_that_loses_them(form):
    """What the parameters move in 32 updates, each of which a sum in 16 bits would lose, is beyond their bound."""
    case = steady_case(0.25, 32, unit_roundoff(form))
    params = {name: rounded(np.asarray(x, np.float32), form) for name, x in case.params.items()}
    oracle = TracedMixedTrainer(params, case.settings | {"dtype": form})
    oracle.train(case.epochs[0], 1)
    for name, x in bounded(oracle.parameters()).items():
        moved = np.abs(x.value - params[name])
        assert np.all((moved > x.bound) | (moved == 0.0)), name
        assert np.any(moved)
