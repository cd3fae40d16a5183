"""Conventions: the table is whole, what is declared is checked, every variant of the reference subject is graded."""

import contextlib
import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from fixtures.mutants import MUTANTS
from fixtures.replacement import subject_with
from fixtures.subjects.reference import functions
from honestloop.conventions import LEGAL, MEANING, ConventionError, Conventions, declared
from honestloop.protocol import Subject
from properties.assertions import NotOfferedError, Refusal
from properties.checks import all_properties

FEW = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MORE = settings(FEW, max_examples=20)
CHANGES = [(key, value) for key, values in LEGAL.items() for value in values[1:]]
CONCERNED = {
    "decay": {"adamw_step", "trainer", "scaler"},
    "eps": {"adamw_step", "trainer"},
    "first_step": {"adamw_step"},
    "schedule": {"learning_rate", "trainer", "scaler"},
    "clip": {"clip_by_global_norm", "trainer", "scaler"},
    "norm": {"clip_by_global_norm", "trainer"},
    "scalars": {"adamw_step", "clip_by_global_norm", "trainer"},
    "rotary": {"rope", "rope_backward"},
    "gelu": {"gelu", "gelu_backward"},
    "dtypes": {"softmax"},
    "variance": {"layer_norm", "layer_norm_backward"},
    "mask": {"attention", "attention_backward"},
    "decayed": {"decays", "trainer"},
    "no_gradients": {"clip_by_global_norm"},
    "seeds": {"epoch_order", "dropout", "initial_parameters", "trainer"},
    "generator": {"dropout", "epoch_order", "data_iterator"},
    **{
        name: {"trainer"}
        for name in (
            *("empty_window", "leftover", "empty_evaluation", "epoch_edge", "seeded", "domain"),
            *("accumulate", "epochs"),
        )
    },
    "labels": {"collate"},
    "half": {"mixed_adamw_step", "mixed_clip_by_global_norm", "mixed_cross_entropy", "trainer"},
    "master": {"mixed_adamw_step"},
    "moments": {"mixed_adamw_step"},
    **{name: {"tracker"} for name in ("patience", "ties", "non_finite")},
    "first_evaluation": {"schedule_of_events"},
    "average": {"weight_average"},
    "outlier_window": {"outlier_detector"},
    "outlier_deviation": {"outlier_detector"},
    "excluded_again": {"time_budget"},
    "skipped": {"scaler"},
    "growth": {"scaler"},
    "autocast": {"autocast_matmul", "autocast_matmul_backward"},
    "product": {"autocast_matmul", "autocast_matmul_backward"},
    "float8": {"round_float8"},
    "no_bytes": {"bits_per_byte"},
    "top_k_ties": {"token_probabilities", "sample_token"},
    "filters": {"token_probabilities", "sample_token"},
    "flops": {"flops_per_token"},
    "flops_window": {"flops_per_token"},
    "billing": {"cost"},
    "reduction": {"accumulated_loss"},
    "window": {"window_attention", "window_attention_backward"},
}
"""Functions that a convention changes."""


def test_the_table_the_fields_and_their_meanings_belong_together():
    assert [f.name for f in fields(Conventions)] == list(LEGAL) == list(MEANING)
    assert all(f.default == LEGAL[f.name][0] for f in fields(Conventions))


def test_nothing_declared_is_the_default():
    assert declared({}) == Conventions()
    assert Conventions().changed() == {}
    assert Conventions(clip="torch").changed() == {"clip": "torch"}


@pytest.mark.parametrize(
    ("conventions", "said"),
    [
        ({"decays": "before"}, "unknown convention 'decays'; there are dtypes, decay, eps, first_step"),
        ({"decay": "during"}, "convention decay: 'during' is none of 'before', 'with', 'after'"),
        ({"first_step": 1}, "convention first_step: 1 is none of '1', '0'"),
        ({"dtypes": ["float32"]}, "convention dtypes: ['float32'] is none of"),
        ("decay", "CONVENTIONS is of type str, not a dict"),
    ],
)
def test_what_is_not_legal_is_one_line(conventions, said):
    with pytest.raises(ConventionError, match=re.escape(said)) as caught:
        declared(conventions)
    assert "\n" not in str(caught.value)


def test_what_follows_from_a_convention():
    assert Conventions(dtypes="float64").float_types == (np.float64,)
    assert [Conventions(first_step=first).step_number(1) for first in ("1", "0")] == [1, 0]


@pytest.mark.parametrize(("key", "value"), CHANGES, ids=[f"{key}={value}" for key, value in CHANGES])
def test_the_reference_passes_under_every_convention(key, value):
    """Every property of the functions that it concerns, which must be some."""
    conventions = Conventions(**{key: value})
    subject = Subject.of("reference", functions(conventions), conventions)
    graded = 0
    for prop in all_properties().values():
        if not prop.functions & CONCERNED[key] or prop.about_presence:
            continue
        for case in prop.cases():
            if (
                "name" not in case
                and case.get("dtype", conventions.float_types[0]) in conventions.float_types
            ):
                graded += run(prop, subject, case)
    assert graded


OF_THE_LOOP = [(key, value) for key, value in CHANGES if CONCERNED[key] == {"trainer"}]
"""Conventions of the loop alone."""


@pytest.mark.parametrize(("key", "value"), OF_THE_LOOP, ids=[f"{key}={value}" for key, value in OF_THE_LOOP])
def test_a_loop_that_does_not_declare_its_convention_is_refused(key, value):
    """The correct loop of the convention, judged as if it followed the default."""
    subject = Subject.of("reference", functions(Conventions(**{key: value})), Conventions())
    refusals: list[Any] = []
    for name, prop in all_properties().items():
        if prop.functions == {"trainer"} and not refusals:
            for case in prop.cases():
                with contextlib.suppress(NotOfferedError):
                    try:
                        prop.runnable(MORE)(subject=subject, **case)
                    except Refusal as refusal:
                        refusals.append((name, refusal.rule))
                        break
    assert refusals


@pytest.mark.parametrize(
    ("id", "refused"), [("rng_seed_in_32_bits", False), ("rng_seed_zero_is_no_seed", True)]
)
def test_a_loop_may_say_that_it_uses_32_bits_of_a_seed(id, refused):
    """And is then held to those."""
    conventions, found = Conventions(seeds="32 bits"), set()
    subject = Subject.of("reference", subject_with(MUTANTS[id], conventions), conventions)
    for prop in all_properties().values():
        for case in prop.cases() if "RNG-02" in prop.rules else ():
            try:
                prop.runnable(FEW)(subject=subject, **case)
            except Refusal as refusal:
                found.add(refusal.rule)
    assert found == ({"RNG-02"} if refused else set())


def run(prop: Any, subject: Subject, case: dict[str, Any]) -> bool:
    """Whether the property was graded; it fails if the subject is refused."""
    try:
        prop.runnable(FEW)(subject=subject, **case)
    except NotOfferedError:  # it says nothing under this convention
        return False
    return True
