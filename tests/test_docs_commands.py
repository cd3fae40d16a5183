"""Every command of README.md, CONTRIBUTING.md and docs/ is run by a test, or is said here to be long, with its reason.

The tests that run most of them are where their subject is; this file knows which, and runs what is left.
"""

import ast
import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from honestloop.suite_location import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)

INIT = "tests/test_honestloop_cli.py::test_what_init_makes_holds_and_the_documented_edit_is_named"
WHEEL = "tests/test_wheel.py::test_a_users_own_gates_and_impl_live_beside_it"
EXAMPLE = "tests/test_examples.py::test_an_example_passes_at_its_level"
GUIDE = "tests/test_subjects.py::test_the_example_of_the_guide_passes_and_is_short"
HERE = "tests/test_docs_commands.py::"
RULE = "tests/test_contributing.py::test_the_rule_works"
KERNEL = "tests/test_contributing.py::test_the_kernel_works"

RUN_BY = {
    r"pip install (\.|\S*path/to/\S+)": WHEEL,
    r"pytest -p honestloop --pyargs .*": "tests/test_wheel.py::test_pytest_grades_in_a_repository_of_the_users_own",
    r"honestloop init \w+": INIT,
    r"honestloop check my_loop( --first| --rule LOOP-02)?": INIT,
    r"honestloop explain LOOP-02": "tests/test_honestloop_cli.py::test_explain_has_every_part_of_every_rule",
    r"honestloop check my_adapter( -x| -r LOOP-02| --profile nightly --margins)?": GUIDE,
    r"CS336_ADAPTERS=\S+ honestloop check \S+cs336": "tests/test_subjects.py::test_adapters_of_cs336_pass_unmodified",
    r"honestloop grade (\S*docs/examples/\w+( --gate model)?|docs/examples|subject.toml)": EXAMPLE,
    r"mkdir submissions && cd submissions|cd \.\.|honestloop check ada --json \S+": HERE
    + "test_a_class_is_graded",
    r"python \S*grade_class.py .*": HERE + "test_a_class_is_graded",
    r"python -c .*Counter.*": HERE + "test_a_class_is_graded",
    r"python docs/examples/my_run.py --out runs/mine": HERE + "test_the_run_of_the_guide_is_recorded",
    r"honestloop check-run runs/mine": HERE + "test_the_run_of_the_guide_is_recorded",
    r"honestloop check-run runs/first": "tests/test_honestloop_check_run.py::test_the_command",
    r"python -m impl (train|eval|sample|--help).*": "tests/test_impl_cli.py::",
    r"(\.venv/bin/)?python -m pytest tests/test_house.py": "tests/test_house.py::",
    r"python -m pytest properties/test_perplexity.py --impl \S+": RULE,
    r"python -m properties.strength ppl_one_token_too_few": RULE,
    r"python docs/generate.py": RULE,
    r"python -m pytest tests/test_reference_(rules.py|examples.py -k PPL)": RULE,
    r"python -m pytest tests/test_impl_(moving_average.py|generated_code.py -k moving_average)": KERNEL,
}
"""The whole of a command, without its comment -> the test that runs it."""

LONG = {
    r"python -m properties.(external|left_out) .*": "minutes; tests/test_properties_external.py, _left_out.py",
    r"make (gates|test|install|properties|lint)": "what CI runs (.ci/run, .github/workflows)",
    r"make ui": "installs the full MLflow and serves until it is stopped",
    r"pytest gates/ --impl my_pkg|pytest gates/ --all-controls": "make gates, make strength",
    r"for subject in .*|name=.*|honestloop grade \"\$subject\" .*|done": "a grading of minutes for each submission",
}
"""The whole of a command -> why no test runs it."""


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line of a block of shell."""
    return [
        (page.name, line.split(" #")[0].strip())
        for page in PAGES
        for block in SHELL.findall(page.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.strip()
    ]


def entry_of(command: str) -> list[str]:
    """The patterns that it is."""
    parts = [command] if command.startswith("mkdir") else command.split(" && ")
    return [next((p for p in {**RUN_BY, **LONG} if re.fullmatch(p, part)), "") for part in parts]


@pytest.mark.parametrize(
    ("page", "command"), [pytest.param(*both, id=": ".join(both)) for both in commands()]
)
def test_a_command_is_run_by_a_test_or_said_to_be_long(page, command):
    assert all(entry_of(command)), f"{page}: nothing runs `{command}`: add it to RUN_BY or LONG"


def test_every_entry_is_a_command_of_a_page():
    used = Counter(entry for _, command in commands() for entry in entry_of(command))
    assert {*RUN_BY, *LONG} - used.keys() == set()


@pytest.mark.parametrize("test", sorted(set(RUN_BY.values())))
def test_the_tests_that_run_them_are_there(test):
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == (name or f.name)]


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def test_a_class_is_graded(tmp_path):
    """docs/start-instructor.md and grading.md: two students, the second with the mistake of the page."""
    students = tmp_path / "submissions"
    students.mkdir()
    for name in ("ada", "ben"):
        assert python(students, "-m", "honestloop", "init", name).returncode == 0
    source = students / "ben" / "loop.py"
    page = (ROOT / "docs" / "start-instructor.md").read_text(encoding="utf-8")
    ((old, new),) = re.findall(r"replace `(.+?)` by `(.+?)`", page)
    assert source.read_text().count(old) == 1
    source.write_text(source.read_text().replace(old, new))
    (students / "cyd.py").write_text("import nothing_of_that_name\n")
    script = str(ROOT / "docs" / "examples" / "grade_class.py")
    done = python(tmp_path, script, "submissions", "reports", "-r", "LOOP-02")
    assert done.returncode == 0, done.stderr
    shown = re.search(r"^```\n(ada\t.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert shown is not None
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    assert printed[:2] == [line.rstrip() for line in shown[1].splitlines()]
    with (tmp_path / "reports" / "table.csv").open() as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["cyd"]["ended"] == "cannot be imported"
    assert rows["cyd"]["holds"] == "0"
    assert rows["ben"]["broken rules"] == "LOOP-02"
    assert "behaves like" in (tmp_path / "reports" / "ben.txt").read_text()
    assert json.loads((tmp_path / "reports" / "ada.json").read_text())["rules"]["LOOP-02"] == "holds"
    (counted,) = re.findall(
        r'^python -c "(.+)"$', (ROOT / "docs" / "grading.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert "'holds': 4" in python(tmp_path, "-c", counted).stdout


def test_the_run_of_the_guide_is_recorded(tmp_path):
    """docs/your-loop.md, step 7: what it shows of check-run is what check-run says."""
    done = python(tmp_path, str(ROOT / "docs" / "examples" / "my_run.py"), "--out", "runs/mine")
    assert done.returncode == 0, done.stderr
    said = python(tmp_path, "-m", "honestloop", "check-run", "runs/mine").stdout
    assert f"\n{said}```" in (ROOT / "docs" / "your-loop.md").read_text(encoding="utf-8")
