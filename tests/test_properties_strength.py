"""The properties refuse every mutant, by each of the rules that name its mistake."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.mutants import MUTANTS
from fixtures.mutants.lifted import READINGS, of_trainer
from fixtures.subjects import reference
from honestloop.conventions import Conventions
from honestloop.protocol import Subject
from properties import strength
from properties.checks import all_properties
from properties.property_record import Record

ROOT = Path(__file__).parents[1]


def test_every_mutant_is_killed(tmp_path):
    counts = tmp_path / "strength.json"
    command = [sys.executable, "-m", "properties.strength", "--kills", "--json", str(counts)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    found = json.loads(counts.read_text())
    assert found["survivors"] == {}
    assert [result["mutant"] for result in found["results"]] == list(MUTANTS)


def test_the_sample_has_as_many_functions_as_there_are_mutants_in_it():
    names = strength.sample(7)
    assert len({MUTANTS[name].function for name in names}) == len(names) == strength.SAMPLE_SIZE
    assert names == strength.sample(7) != strength.sample(8)


def test_an_unknown_mutant_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        strength.main(["no_such_mutant"])
    assert ended.value.code == 2
    assert re.search(r"error: no mutant no_such_mutant$", capsys.readouterr().err.strip())


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("loop_last_window_dropped", "LOOP-01"),
        ("loop_never_clips", "LOOP-06"),
        ("loop_t_stays_at_one", "LOOP-07"),
    ],
)
def test_the_first_failure_is_the_root_cause(name, rule):
    assert strength.first_failure(name) == rule


@pytest.mark.parametrize(
    ("name", "rule"),
    [("clip_each_tensor_alone", "LOOP-06"), ("loss_in_bits", "LOOP-02"), ("opt_betas_exchanged", "LOOP-07")],
)
def test_a_mistake_of_a_function_shows_in_the_loop_that_calls_it(name, rule):
    assert strength.refused_in_the_loop(name) == rule


def test_what_can_be_lifted_is_of_functions_that_the_loop_calls():
    assert {MUTANTS[name].function for name in strength.expressible()} == set(READINGS)
    with pytest.raises(ValueError, match="the loop does not call trainer"):
        of_trainer(MUTANTS["loop_bias_decays"])


def test_a_mutant_that_fails_only_once_is_killed_all_the_same():
    """As one does that draws from fresh entropy: Hypothesis calls it flaky."""
    calls = itertools.count()
    right = reference.perplexity

    def wrong_once(nll_sum, tokens):
        return 0.0 if next(calls) == 0 else right(nll_sum, tokens)

    subject = Subject.of("once", {"perplexity": wrong_once}, Conventions())
    test, prop = next((t, p) for t, p in all_properties().items() if p.functions == {"perplexity"})
    refused = strength.grade(prop, subject, {}, test, Record(20), shrink=True)
    assert refused is not None
    rule, kill = refused
    assert (rule, kill.test) == ("PPL-01", test)
