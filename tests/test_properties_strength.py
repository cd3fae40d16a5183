"""The properties refuse every mutant, by each of the rules that name its mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.mutants import MUTANTS
from properties import strength

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
