"""The examples of docs/ are graded as a stranger would grade them: as they are, and with a mistake of each kind."""

import re
from pathlib import Path

import pytest

from honestloop import scaffold
from tests import graded_examples
from tests.graded_examples import EXAMPLES, Mistake

EVERY = graded_examples.mistakes()
SAMPLE = [mistake for mistake in EVERY if mistake.example == "script_level1"][:1]
"""What is graded without --all-mistakes: of a loop that starts at once."""


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(name, marks=[] if name == "script_level1" else [pytest.mark.thorough])
        for name in graded_examples.examples()
    ],
)
def test_an_example_passes_at_its_level(example, tmp_path):
    status, verdict, printed = graded_examples.grade(EXAMPLES / example, tmp_path / "runs")
    assert (status, verdict["verdict"]) == (0, "PASSED"), printed
    assert verdict["level"]["name"] == level_of(example)
    said = re.search(r" PASSED \d+ of \d+ gates at level \d, [\w ]+ ->", printed)
    assert said is not None, printed
    assert said[0] in (EXAMPLES.parent / "your-loop.md").read_text() or level_of(example) == "phase 18"


@pytest.mark.thorough
def test_what_init_makes_passes_level_3(tmp_path):
    path = tmp_path / scaffold.make("my_loop", tmp_path)[0].parent
    status, verdict, printed = graded_examples.grade(path, tmp_path / "runs")
    assert (status, verdict["verdict"]) == (0, "PASSED"), printed
    assert verdict["level"]["name"] == "model"


def of(mistake: Mistake) -> object:
    """A parameter; what is not in the sample is graded only if it is asked for."""
    marks = [] if mistake in SAMPLE else [pytest.mark.thorough]
    return pytest.param(mistake, id=f"{mistake.example}-{mistake.name}", marks=marks)


@pytest.mark.parametrize("mistake", [of(mistake) for mistake in EVERY])
def test_a_mistake_is_refused_for_what_it_is(mistake, tmp_path):
    refuse(mistake, tmp_path)


def refuse(mistake: Mistake, folder: Path) -> None:
    """The example with the mistake fails, by the check that is responsible, in the right words.

    Only the gate of that check is asked: what the others would say changes nothing.
    """
    subject = graded_examples.copy(mistake.example, folder)
    mistake.make(subject)
    gate = mistake.check.partition("/")[0]
    status, verdict, printed = graded_examples.grade(subject, folder / "runs", "--gate", gate)
    assert (status, verdict["verdict"]) == (1, "FAILED"), printed
    found = graded_examples.refusals(verdict)
    assert mistake.says in found.get(mistake.check, ""), (
        f"expected {mistake.check} to say it; {found}\n{printed}"
    )


def level_of(example: str) -> str:
    """The level that the name of an example ends with."""
    word = example.rpartition("_")[2]
    return {"level1": "command", "level2": "record", "level3": "model", "phase18": "phase 18"}[word]


@pytest.mark.parametrize("example", graded_examples.examples())
def test_every_example_has_a_mistake_of_each_gate_that_judges_it(example):
    """So that each gate is seen to refuse a stranger's loop, not only ours."""
    gates = {mistake.check.partition("/")[0] for mistake in EVERY if mistake.example == example}
    needed = {"command": 1, "record": 2, "model": 3, "phase 18": 3}[level_of(example)]
    assert len(gates) >= needed, gates
