"""The other subjects are graded with no false alarm; what deviates in the libraries is measured again."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests import graded_examples

ROOT = Path(__file__).parents[1]
ADAPTERS = "tests/cs336_example/tests/adapters.py"


def grade(subject, *arguments, tests="properties", **environment):
    """pytest on the properties with this subject, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        tests,
        "--impl",
        subject,
        *arguments,
    ]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


def passes(outcome, at_least):
    """No rule is broken, and this many were graded."""
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    last = outcome.stdout.splitlines()[-1]
    found = re.match(r"honestloop: \S+: (\d+) rules hold, 0 are broken", last)
    assert found and int(found[1]) >= at_least, last


def test_pytorch_passes():
    passes(grade("fixtures.subjects.pytorch", "--profile", "dev"), at_least=90)


@pytest.mark.parametrize("part", ["optimizer", "clipping", "schedule"])
def test_optax_passes(part):
    """The parts that compile little; `python -m pytest properties --impl fixtures.subjects.optax_jax` runs all."""
    outcome = grade("fixtures.subjects.optax_jax", "--profile", "dev", tests=f"properties/test_{part}.py")
    passes(outcome, at_least=1)


def test_the_example_of_the_guide_passes_and_is_short():
    adapter = ROOT / "docs/examples/my_adapter.py"
    assert len(adapter.read_text().splitlines()) < 60
    passes(grade("my_adapter", "--profile", "dev", PYTHONPATH=str(adapter.parent)), at_least=35)


def test_the_guide_s_mistake_is_named(tmp_path):
    """docs/your-loop.md shows this edit and what is said of it."""
    loop, adapter = ((ROOT / f"docs/examples/my_{name}.py").read_text() for name in ("loop", "adapter"))
    right = "loss_sum(self.model, *batch) / max(tokens, 1)"
    guide = (ROOT / "docs/your-loop.md").read_text()
    wrong = "loss_sum(self.model, *batch) / max(int(batch[2].sum()), 1) / len(window)"
    assert right in loop and right in guide and wrong in guide
    (tmp_path / "wrong_loop.py").write_text(loop.replace(right, wrong))
    (tmp_path / "wrong_adapter.py").write_text(
        adapter.replace("import my_loop\n", "import wrong_loop as my_loop\n")
    )
    outcome = grade(
        "wrong_adapter", "-k", "logged_loss", tests="properties/test_loop.py", PYTHONPATH=str(tmp_path)
    )
    assert outcome.returncode == 1
    assert "LOOP-02" in outcome.stdout
    assert "behaves like: mean of the means of the micro-batches" in outcome.stdout


def test_the_guide_s_example_hides_no_missing_train_mode(tmp_path):
    """Its evaluation puts the model back; nothing else in the loop does, so that it shows when that line is gone."""
    loop, adapter = ((ROOT / f"docs/examples/my_{name}.py").read_text() for name in ("loop", "adapter"))
    line = "        self.model.train()\n"
    assert loop.count(line) == loop.count(".train()") == 1
    (tmp_path / "eval_loop.py").write_text(loop.replace(line, ""))
    (tmp_path / "eval_adapter.py").write_text(
        adapter.replace("import my_loop\n", "import eval_loop as my_loop\n")
    )
    outcome = grade(
        "eval_adapter",
        "-k",
        "evaluation_changes_nothing",
        tests="properties/test_evaluation.py",
        PYTHONPATH=str(tmp_path),
    )
    assert outcome.returncode == 1
    assert "EVAL-03" in outcome.stdout


def test_the_guide_s_whole_run_is_described_as_its_adapter_is():
    """The conventions of subject.toml are the adapter's, and its checkpoints are no pickle."""
    examples = ROOT / "docs/examples"
    said = tomllib.loads((examples / "subject.toml").read_text())
    adapter = (examples / "my_adapter.py").read_text()
    assert all(f'"{key}": "{value}"' in adapter for key, value in said["conventions"].items())
    assert "torch.save" not in "".join(path.read_text() for path in examples.glob("my_*.py"))


@pytest.mark.thorough
def test_the_guide_s_whole_run_passes_at_level_2(tmp_path):
    status, verdict, printed = graded_examples.grade(ROOT / "docs/examples", tmp_path / "runs")
    assert (status, verdict["verdict"]) == (0, "PASSED"), printed
    assert verdict["level"]["name"] == "record"


def test_adapters_of_cs336_pass_unmodified():
    passes(grade("fixtures.subjects.cs336", "--profile", "dev", CS336_ADAPTERS=ADAPTERS), at_least=55)


def test_an_adapter_that_is_not_written_is_not_offered():
    outcome = grade("fixtures.subjects.cs336", tests="properties/test_activation.py", CS336_ADAPTERS=ADAPTERS)
    assert re.search(r"not offered: .*\bsilu\b", outcome.stdout)
    assert "nothing was graded" in outcome.stdout
    assert outcome.returncode == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "CS336_ADAPTERS is not set: give the path of your tests/adapters.py"),
        ("no/such/adapters.py", "CS336_ADAPTERS=no/such/adapters.py: there is no such file"),
        ("no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_no_adapters_is_one_line(value, said):
    outcome = grade("fixtures.subjects.cs336", tests="properties/test_matmul.py", CS336_ADAPTERS=value)
    assert "subject fixtures.subjects.cs336: cannot be imported: " in outcome.stdout + outcome.stderr
    assert said in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stdout
    assert outcome.returncode != 0


def test_wrong_cs336_functions_are_refused(tmp_path):
    """Clipping each tensor by its own norm, and decay before the update without saying so."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "cs336_basics").mkdir()
    example = ROOT / "tests/cs336_example"
    (tmp_path / "tests/adapters.py").write_text((example / "tests/adapters.py").read_text())
    (tmp_path / "cs336_basics/__init__.py").write_text("")
    parts = (example / "cs336_basics/parts.py").read_text()
    wrong = parts.replace(
        "norm = torch.sqrt(sum((g * g).sum() for g in gradients))", "norm = gradients[0].norm()"
    )
    decay = 'p -= lr * group["weight_decay"] * p'
    update = 'p -= rate * m / (v.sqrt() + group["eps"])'
    wrong = wrong.replace(f"{update}\n                {decay}", f"{decay}\n                {update}")
    assert wrong.count(decay) == 1 and wrong != parts
    (tmp_path / "cs336_basics/parts.py").write_text(wrong)
    path = {"CS336_ADAPTERS": str(tmp_path / "tests/adapters.py")}
    clipping = grade("fixtures.subjects.cs336", tests="properties/test_clipping.py", **path)
    assert "CLIP-02" in clipping.stdout and clipping.returncode == 1
    adamw = grade("fixtures.subjects.cs336", tests="properties/test_optimizer.py", **path)
    assert "OPT-01" in adamw.stdout and adamw.returncode == 1
    declared = '{"decay": "before"}'
    adamw = grade(
        "fixtures.subjects.cs336", tests="properties/test_optimizer.py", CS336_CONVENTIONS=declared, **path
    )
    passes(adamw, at_least=2)


def test_the_deviations_of_libraries_are_still_true():
    """Each deviation is there, and docs/subjects.md has the numbers of these versions."""
    from fixtures.subjects import library_deviations

    page = (ROOT / "docs/subjects.md").read_text()
    for name in ("torch", "jax", "optax"):
        assert f"{name} {version(name).split('+')[0]}" in page
    for what, measure in library_deviations.DEVIATIONS.items():
        got, asked = measure()
        assert got != asked, f"{what} is no longer so"
        assert what in page
