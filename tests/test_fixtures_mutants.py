"""The table of mutants and the catalogue of real bugs: complete, and of one mind."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from fixtures import mutants
from fixtures.mutants import FAMILIES, MUTANTS, subject_with
from fixtures.subjects import reference
from gates.verdict.definition import controls
from honestloop.conventions import Conventions
from honestloop.protocol import FUNCTIONS
from reference.rules import RULES

FOLDER = Path(mutants.__file__).parent
CATALOGUE = tomllib.loads((FOLDER / "catalogue.toml").read_text(encoding="utf-8"))


def test_every_file_of_the_folder_is_a_family():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*FAMILIES, "__init__", "table", "lifted"}


def test_a_mutant_is_of_a_function_and_has_its_rules_and_words():
    for mutant in MUTANTS.values():
        assert mutant.function in FUNCTIONS
        assert mutant.rules and set(mutant.rules) <= RULES.keys()
        assert mutant.symptom and not mutant.mistake.endswith(".")
        assert mutant.described.startswith(f"{mutant.mistake} (mutant {mutant.id}")
        assert set(mutant.unless) <= set(vars(Conventions()))
        assert mutant.is_wrong_under(mutant.conventions), f"{mutant.id} is no mistake where it is judged"


def test_no_two_mutants_of_a_function_share_their_words():
    said = [(mutant.function, mutant.mistake) for mutant in MUTANTS.values()]
    assert sorted(set(said)) == sorted(said)


def test_the_catalogue_and_the_mutants_are_of_one_mind():
    claimed = {(int(row), name) for row, entry in CATALOGUE.items() for name in entry.get("mutants", ())}
    assert claimed == {(bug, mutant.id) for mutant in MUTANTS.values() for bug in mutant.bugs}


def test_the_catalogue_and_the_controls_are_of_one_mind():
    claimed = {(int(row), name) for row, entry in CATALOGUE.items() for name in entry.get("gates", ())}
    assert claimed == {(bug, control.name) for control in controls() for bug in control.bugs}


def test_every_row_is_covered_or_says_why_not():
    for row, entry in CATALOGUE.items():
        covered = bool(entry.get("mutants") or entry.get("gates") or entry.get("tests"))
        assert covered != bool(entry.get("not_applicable")), f"row {row}: {entry}"
        assert entry["title"]


def test_exactly_one_function_is_exchanged():
    for mutant in MUTANTS.values():
        correct = reference.functions(mutant.conventions)
        wrong = subject_with(mutant)
        assert [name for name in wrong if wrong[name] is not correct.get(name)] == [mutant.function]


def test_a_mutant_follows_the_conventions_of_its_subject():
    """L2 in place of decay, in a subject that counts updates from 0 and decays after the update."""
    declared = Conventions(decay="after", first_step="0")
    p, g, zero = np.array([1.0, -2.0]), np.array([0.1, 0.2]), np.zeros(2)
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    wrong = MUTANTS["opt_l2_instead_of_decay"].under(declared)
    right = reference.functions(declared)["adamw_step"]
    got = wrong(p, g, zero, zero, t=0, weight_decay=0.5, **settings)
    expected = right(p, g + 0.5 * p, zero, zero, t=0, weight_decay=0.0, **settings)
    for a, b in zip(got, expected, strict=True):
        assert a.tobytes() == b.tobytes()
    assert not MUTANTS["opt_decay_after_the_update"].is_wrong_under(declared)
    assert MUTANTS["sched_first_update_wasted"].is_wrong_under(declared)
    assert not MUTANTS["sched_first_update_wasted"].is_wrong_under(Conventions(schedule="cs336"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_the_arguments(dtype):
    logits, targets = np.ones((1, 2, 3), dtype=dtype), np.zeros((1, 2), dtype=np.int64)
    value, gradient = MUTANTS["loss_in_bits"].under()(logits, targets, np.ones((1, 2), dtype=bool))
    assert gradient.dtype == dtype
    assert isinstance(value, float)


def test_the_trainer_of_a_mutant_gets_the_conventions():
    params = {"E": np.ones((2, 1)), "W": np.ones((1, 2)), "b": np.zeros(2)}
    settings = {"weight_decay": 0.0}
    declared = Conventions(decay="after", schedule="cs336", clip="torch")
    trainer = MUTANTS["loop_bias_decays"].under(declared)(params, settings)
    assert trainer.adamw == declared.adamw
    assert trainer.clipping == declared.clipping
    assert trainer.schedule == "cs336"
