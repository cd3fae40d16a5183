"""CONTRIBUTING.md works: its rule and its kernel are put where it says, and what it says of them is so.

python -m pytest tests/test_contributing.py --all-mistakes    follows both, in a copy; make examples runs it
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from honestloop.suite_location import ROOT
from reference.rules import RULES, Rule

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
ENTRY, PROPERTY, MUTANT, KERNEL, ROW, TEST = (
    text for language, text in BLOCKS if language in ("toml", "python")
)
COPIED = (
    "reference",
    "properties",
    "fixtures",
    "honestloop",
    "gates",
    "impl",
    "docs",
    "tests",
    "benchmarks",
    "pages",
)


def test_the_rule_is_one_that_the_table_would_take():
    ((rule_id, fields),) = tomllib.loads(ENTRY).items()
    Rule(rule_id, needs=tuple(fields.pop("needs")), **fields)
    family = [rule for rule in RULES if rule.startswith("PPL-")]
    assert rule_id == f"PPL-{len(family) + 1:02d}", "it must be the next of its family: number it anew"


@pytest.mark.parametrize("text", [PROPERTY, MUTANT, KERNEL, TEST])
def test_what_it_has_one_write_is_python(text):
    ast.parse(text)


@pytest.fixture
def copy(tmp_path):
    """The repository, to be written into."""
    for name in (folder for folder in COPIED if (ROOT / folder).is_dir()):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    for name in (
        "pyproject.toml",
        "conftest.py",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "hatch_build.py",
    ):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n") + "\n\n\n" + text, encoding="utf-8")


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def ends_well(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.thorough
def test_the_rule_works(copy):
    rules = ("-m", "pytest", "tests/test_reference_rules.py", "-q")
    table = copy / "reference" / "rules.toml"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("[RESUME-01]\n", ENTRY + "[RESUME-01]\n"), encoding="utf-8")
    assert "CONTRIBUTING.md has a rule worked through" in python(copy, *rules).stdout
    file = copy / "properties" / "test_perplexity.py"
    append(file, PROPERTY)
    source = file.read_text(encoding="utf-8").replace(
        "import agrees, holds\n", "import agrees, holds, same_bytes\n"
    )
    file.write_text(source, encoding="utf-8")
    append(copy / "fixtures" / "mutants" / "perplexity.py", MUTANT)
    for subject in ("impl", "fixtures.subjects.reference"):
        ends_well(python(copy, "-m", "pytest", "properties/test_perplexity.py", "--impl", subject, "-q"))
    assert "1 of 1" in ends_well(python(copy, "-m", "properties.strength", "ppl_one_token_too_few"))
    ends_well(python(copy, "docs/generate.py"))
    assert "ppl_one_token_too_few" in (copy / "docs" / "rules" / "ppl-05.md").read_text(encoding="utf-8")
    ends_well(python(copy, *rules))
    assert "2 passed" in ends_well(
        python(copy, "-m", "pytest", "tests/test_reference_examples.py", "-k", "PPL-05", "-q")
    )


@pytest.mark.thorough
def test_the_kernel_works(copy):
    append(copy / "impl" / "kernels" / "elementwise.py", KERNEL)
    file = copy / "tests" / "test_impl_generated_code.py"
    row = "        elementwise.scatter_add_rows:"
    source = file.read_text(encoding="utf-8")
    assert source.count(row) == 1
    file.write_text(source.replace(row, ROW + row), encoding="utf-8")
    (copy / "tests" / "test_impl_moving_average.py").write_text(TEST, encoding="utf-8")
    ends_well(python(copy, "-m", "pytest", "tests/test_impl_moving_average.py", "-q"))
    said = ends_well(
        python(copy, "-m", "pytest", "tests/test_impl_generated_code.py", "-k", "moving_average", "-q")
    )
    assert "2 passed" in said
