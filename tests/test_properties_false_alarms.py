"""Correct functions in other arithmetic are not refused; the table that `python -m properties.false_alarms` runs."""

import pytest

from fixtures.correct_variants import VARIANTS
from fixtures.mutants import MUTANTS, subject_with
from honestloop.conventions import Conventions
from honestloop.protocol import Subject
from properties import false_alarms, strength
from properties.checks import all_properties
from properties.property_record import Record

FEW = 3
SAMPLE = (
    "cross_entropy-2",
    "layer_norm-2",
    "gelu-3",
    "clip_by_global_norm-9",
    "adamw_step-16",
    "perplexity-2",
)
"""Those of the forms that were once refused, and one of each sort of function."""


def test_there_are_a_hundred_and_each_says_who_computes_so():
    assert len(VARIANTS) >= 100
    assert len({(v.function, v.form, v.library) for v in VARIANTS.values()}) == len(VARIANTS)
    assert len({v.function for v in VARIANTS.values()}) >= 20


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_is_not_refused(name):
    graded, refused = false_alarms.refusals(VARIANTS[name], FEW)
    assert graded
    assert not refused, refused[0].message


def test_a_wrong_one_would_be_refused(monkeypatch, capsys):
    """The command says so, and ends with status 1."""
    right = VARIANTS["perplexity-2"]
    wrong = type(right)(**vars(right) | {"written": lambda nll_sum, tokens: 2.0 ** (nll_sum / tokens)})
    monkeypatch.setitem(VARIANTS, right.id, wrong)
    assert false_alarms.main(["--examples", str(FEW), right.id]) == 1
    assert "1 of 1 correct variants refused" in capsys.readouterr().out


def test_an_unknown_name_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        false_alarms.main(["nothing"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().endswith("no correct variant nothing")


STRICT = [
    ({"variance": "one pass"}, "norm_variance_with_d_minus_one"),
    ({"mask": "additive"}, "att_not_causal"),
    ({"rotary": "halves backwards"}, "rope_positions_from_one"),
    ({"clip": "keras"}, "clip_each_tensor_alone"),
    ({"schedule": "warmdown"}, "sched_no_decay"),
    ({"schedule": "uncut"}, "sched_steps_from_one"),
    ({"decayed": "all"}, "opt_nothing_decays"),
]
"""A convention, and a mutant that is as wrong under it."""


@pytest.mark.parametrize(("changed", "name"), STRICT, ids=[f"{c}" for c, _ in STRICT])
def test_what_is_declared_is_tested_as_strictly(changed, name):
    mutant, declared = MUTANTS[name], Conventions(**changed)
    subject = Subject.of(name, subject_with(mutant, declared), declared)
    refused = {
        found[0]
        for test, prop in all_properties().items()
        if set(prop.rules) & set(mutant.rules)
        for case in strength.cases(prop, mutant.function)
        if (found := strength.grade(prop, subject, case, test, Record(20)))
    }
    assert refused & set(mutant.rules)
