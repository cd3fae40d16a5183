"""The pytest plugin: rule ids select and are reported; blocked, not offered and expected differ from a skip."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RED, GREEN = "\x1b[31m", "\x1b[32m"
SUBJECT = """
from fixtures.subjects import reference as right
CAPABILITIES = ["softmax", "matmul", "perplexity"]
EXPECTED = {"PPL-01": "without exp, on purpose"}
matmul = right.matmul
def softmax(x):
    x[...] = 0.0
    return x.copy()
def perplexity(nll_sum, tokens):
    return nll_sum / tokens
"""


def run(folder, *arguments, cwd=ROOT):
    """pytest in a folder, with modules of ours and of `folder` to be found."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(what pytest said, the JUnit report) of a subject with one fault, one expected failure and few functions."""
    folder = tmp_path_factory.mktemp("graded")
    (folder / "theirs.py").write_text(SUBJECT)
    files = [f"properties/test_{name}.py" for name in ("contract", "perplexity", "matmul", "attention")]
    reports = f"--junitxml={folder / 'junit.xml'}", f"--page={folder / 'properties.html'}"
    done = run(folder, *files, "--impl", "theirs", "-v", *reports)
    return done, ET.parse(folder / "junit.xml"), (folder / "properties.html").read_text()


def test_the_page_has_a_block_a_rule_and_what_is_left_open(graded):
    done, _, page = graded
    assert "/properties.html" in done.stdout
    assert page.count("✗ BROKEN</span> SUBJ-02") == 1
    assert "EXPECTED FAILURE</span> PPL-01, as declared: without exp, on purpose." in page
    assert "MATMUL-01" in page and "NOT OFFERED" in page


def cases(report):
    """Name -> (properties, whether it was skipped) of each test case."""
    found = {}
    for case in report.iter("testcase"):
        properties = [(p.get("name"), p.get("value")) for p in case.iter("property")]
        found[case.get("name")] = properties, case.find("skipped")
    return found


def test_the_outcome_and_the_rules_of_each_test_are_in_junit(graded):
    found = cases(graded[1])
    held, skipped = found["test_entries_are_dot_products[float32]"]
    assert ("outcome", "holds") in held
    assert [value for name, value in held if name == "rule"] == ["MATMUL-01"]
    assert skipped is None
    for test, outcome, why in (
        ("test_attention_is_its_formula[float32]", "not offered", "not offered: attention"),
        ("test_perplexity_is_exp_of_the_token_mean", "expected failure", "PPL-01 is broken as declared"),
    ):
        properties, skipped = found[test]
        assert ("outcome", outcome) in properties
        assert why in skipped.get("message")


def test_words_differ_from_a_skip(graded):
    said = graded[0].stdout
    for word in ("NOT OFFERED", "EXPECTED FAILURE"):
        assert word in said
    assert " SKIPPED" not in said
    assert "PPL-01 is broken as declared: without exp, on purpose: " in said


def test_a_blocked_property_says_by_what(tmp_path):
    (tmp_path / "theirs.py").write_text(
        SUBJECT.replace('"softmax"', '"gelu", "gelu_backward"') + "\ngelu_backward = right.gelu_backward\n"
        "def gelu(x):\n    x[...] = 0.0\n    return x.copy()\n"
    )
    done = run(
        tmp_path,
        *("properties/test_contract.py", "properties/test_activation.py"),
        *("--impl", "theirs", "-v", f"--junitxml={tmp_path / 'junit.xml'}"),
    )
    assert done.returncode == 1
    blocked = [p for p, _ in cases(ET.parse(tmp_path / "junit.xml")).values() if ("outcome", "blocked") in p]
    assert blocked
    assert "blocked by SUBJ-02 (gelu)" in done.stdout


@pytest.mark.parametrize("selection", [("-k", "PPL-01"), ("-m", 'rule(id="PPL-01")')])
def test_a_rule_selects_its_properties(selection, tmp_path):
    (tmp_path / "theirs.py").write_text(SUBJECT.replace("EXPECTED", "NOT_"))
    done = run(tmp_path, "properties/", "--impl", "theirs", *selection)
    assert done.returncode == 1
    assert "3 failed" in done.stdout.splitlines()[-2]
    assert done.stdout.splitlines()[-1].startswith(
        "honestloop: theirs: 0 rules hold, 1 is broken; 0 not offered. First PPL-01:"
    )
    assert "PPL-01  perplexity is exp of" in done.stdout


def test_an_expected_failure_that_holds_fails_the_session(tmp_path):
    (tmp_path / "theirs.py").write_text(
        "from fixtures.subjects.reference import perplexity\nCAPABILITIES = ['perplexity']\n"
        "EXPECTED = {'PPL-01': 'I thought so'}\n"
    )
    done = run(tmp_path, "properties/test_perplexity.py", "--impl", "theirs", "--color=yes")
    assert done.returncode == 1
    assert "PPL-01  holds, though EXPECTED declares that it does not (I thought so): remove it" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert RED in last, last
    assert "PPL-01  holds, though" in last, last


def test_the_last_line_of_a_session_that_passes_is_green(tmp_path):
    (tmp_path / "theirs.py").write_text(
        "from fixtures.subjects.reference import perplexity\nCAPABILITIES = ['perplexity']\n"
    )
    done = run(tmp_path, "properties/test_perplexity.py", "--impl", "theirs", "--color=yes")
    assert done.returncode == 0
    assert GREEN in done.stdout.splitlines()[-1]
    assert RED not in done.stdout.splitlines()[-1]


def test_a_session_of_other_tests_is_left_alone(tmp_path):
    """In a repository of somebody's own, with the plugin loaded, their tests are theirs."""
    (tmp_path / "test_theirs.py").write_text("def test_one():\n    assert True\n")
    done = run(tmp_path, "-p", "honestloop", "test_theirs.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules hold" not in done.stdout


WARNS = """
import math
import warnings
warnings.warn("an import warns")
CAPABILITIES = ["perplexity"]
def perplexity(nll_sum, tokens):
    warnings.warn("and so does a call", DeprecationWarning)
    forgotten = open(__file__)
    del forgotten
    return math.exp(min(nll_sum / tokens, 709.7)) if nll_sum / tokens < 709.0 else math.inf
"""


def test_the_warnings_of_a_subject_are_its_own(tmp_path):
    """This project turns warnings into errors; that is no rule for others."""
    (tmp_path / "warns.py").write_text(WARNS)
    done = run(tmp_path, "properties/test_perplexity.py", "--impl", "warns")
    assert done.returncode == 0, done.stdout
    assert "1 rule holds, 0 are broken" in done.stdout


def test_a_rule_is_told_once_and_of_another_dtype_only_what_differs(tmp_path):
    (tmp_path / "theirs.py").write_text(
        "from fixtures.subjects.reference import softmax as right\nCAPABILITIES = ['softmax']\n"
        "def softmax(x):\n    return 2 * right(x)\n"
    )
    said = run(tmp_path, "properties/test_masks.py", "properties/test_loss.py", "--impl", "theirs").stdout
    broken = [line for line in said.splitlines() if re.match(r"[A-Z]+-\d\d  ", line)]
    again = [line for line in broken if re.match(r"[A-Z]+-\d\d  as in test_", line)]
    assert again, said
    assert len(again) <= len(broken) / 2
    assert said.count("  snippet:") == len(broken) - len(again)
    assert "Failing test case" not in said
