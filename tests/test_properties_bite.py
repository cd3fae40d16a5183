"""Every property fails for a wrong subject: tests/wrong_subjects.py has the table, tests/bite.py runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reference.rules import RULES
from tests.wrong_subjects import WRONG

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def verdicts():
    """What the properties said about each wrong subject; one process for all of them."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.bite"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_wrong_subject_is_refused(verdicts, wrong):
    for node, said in verdicts["wrong"][wrong.name].items():
        assert said is not None, f"{wrong.name} passes properties/{node}"


def test_a_refusal_names_a_rule(verdicts):
    """A state that JSON refuses is the one mistake that shows as another error than the rule's."""
    own = {"state_is_not_json"}
    for name, said in verdicts["wrong"].items():
        for node, message in said.items():
            rule = str(message).removeprefix("AssertionError: ").split(" ")[0]
            assert rule in RULES or name in own, f"{name} in {node}: {message}"


def test_every_property_has_a_wrong_subject(verdicts):
    refused = {node for wrong in WRONG for node in wrong.refused_by}
    assert set(verdicts["tests"]) == refused
