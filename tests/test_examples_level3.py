"""The example of level 3 and each of its mistakes, judged by the gate `model` in this process.

PyTorch is imported once. tests/test_examples.py grades it as a stranger would; here its functions are called, and runs
are shorter.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gates.judge import gradient_check, own_model
from gates.subject import model_runs
from gates.subject.asked_model import AskedModel
from gates.subject.recorded_directory import RecordedDirectory
from gates.subject.recorded_runs import JudgedRun, MadeAgain
from gates.subject.session import Session
from gates.verdict.definition import GATES
from honestloop.description import describe
from tests import graded_examples
from tests.graded_examples import Mistake

EXAMPLE = "torch_level3"
MISTAKES = [m for m in graded_examples.mistakes() if m.example == EXAMPLE and m.check.startswith("model/")]
STEPS, EVERY, SHORT = 40, 20, 4
OWN = ("model", "train", "score")
"""Its modules."""


@contextlib.contextmanager
def imported(folder: Path) -> Iterator[tuple[object, object]]:
    """train.py and score.py of a copy of the example."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module("train"), importlib.import_module("score")
    finally:
        sys.path.remove(str(folder))
        for name in OWN:
            sys.modules.pop(name, None)


def judged(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, steps: int = STEPS) -> dict[str, str]:
    """ "gate/check" -> message, of the checks that refuse it."""
    description = describe(str(folder))
    with imported(folder) as (train, score):
        for name, every, stop in (("run", EVERY, steps), ("short", 1, SHORT)):
            train.train(home / name, 1, steps, every, stop)  # type: ignore[attr-defined]
        answer = score.answer  # type: ignore[attr-defined]
        model = AskedModel(lambda verb, values: answer(verb, values), home / "questions")
        monkeypatch.setattr(model_runs, "asked", lambda subject: contextlib.nullcontext(model))
        whole, short = (RecordedDirectory(home / name, description.run) for name in ("run", "short"))
        run = JudgedRun(whole, {}, 0.0, MadeAgain([], [], {}, {}))
        evidence = model_runs.ask_model(Session(description, home, 1, 2), run, short)
    findings = [
        own_model.normalised(evidence),
        own_model.causality(evidence.probes, evidence.table),
        own_model.padding(evidence.probes, evidence.table),
        own_model.tokenizer(evidence),
        own_model.reported(evidence),
        own_model.beats_the_baseline(evidence),
        own_model.validation_losses(evidence),
        gradient_check.logged_losses(evidence.updates, evidence.table.unit),
        gradient_check.gradients(evidence.updates),
    ]
    checks = next(gate.checks for gate in GATES if gate.name == "model")
    assert {finding.check for finding in findings} == set(checks)
    return {finding.where: finding.message for finding in findings if not finding.passed}


def test_the_example_is_accepted(tmp_path, monkeypatch):
    folder = graded_examples.copy(EXAMPLE, tmp_path)
    assert judged(folder, tmp_path, monkeypatch, describe(str(folder)).run.steps) == {}


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(m, id=m.name, marks=[pytest.mark.thorough] if m is not MISTAKES[0] else [])
        for m in MISTAKES
    ],
)
def test_a_mistake_is_refused_by_its_check_in_its_words(mistake: Mistake, tmp_path, monkeypatch):
    folder = graded_examples.copy(EXAMPLE, tmp_path)
    mistake.make(folder)
    found = judged(folder, tmp_path, monkeypatch)
    assert mistake.says in found.get(mistake.check, ""), found


def test_every_check_of_the_gate_has_a_mistake_that_it_refuses():
    checks = next(gate.checks for gate in GATES if gate.name == "model")
    assert {m.check.partition("/")[2] for m in MISTAKES} == set(checks)
