"""What a subject's author sees: one line for what is missing, the grammar of a failure, the choice of a profile."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from honestloop import protocol
from properties import assertions
from properties.property_record import Record, recording
from reference import activation, bounds

ROOT = Path(__file__).parents[1]


def run(directory, subject, *arguments):
    """pytest on two property files with this module as subject."""
    (directory / "some_subject.py").write_text(subject)
    tests = ["properties/test_matmul.py", "properties/test_perplexity.py"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *tests,
        "--impl",
        "some_subject",
        "-q",
        *arguments,
    ]
    path = {"PYTHONPATH": str(directory), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=path, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_missing_function_is_one_line_and_the_rest_runs(tmp_path):
    outcome = run(
        tmp_path,
        "import math\ndef perplexity(nll_sum, tokens):\n"
        "    mean = nll_sum / tokens\n    return math.exp(mean) if mean < 709 else math.inf\n",
    )
    assert (
        "subject some_subject: some_subject has no function matmul(a [M,K], b [K,N]) -> [M,N]"
        in outcome.stdout
    )
    assert "2 failed, 3 passed" in outcome.stdout or "3 passed, 2 errors" in outcome.stdout
    assert "Traceback" not in outcome.stdout


def test_a_subject_that_cannot_be_imported_is_one_line(tmp_path):
    outcome = run(tmp_path, "raise RuntimeError('no licence\\nfor this')\n")
    assert "subject some_subject: cannot be imported: RuntimeError: no licence for this" in outcome.stderr
    assert outcome.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in outcome.stdout + outcome.stderr


def test_an_unknown_profile_is_refused(tmp_path):
    assert "invalid choice" in run(tmp_path, "", "--profile", "quick").stderr


def test_an_adapter_is_found_inside_a_package(tmp_path, monkeypatch):
    package = tmp_path / "their_loop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "adapter.py").write_text("def gelu(x):\n    return x\n")
    (tmp_path / "plain_module.py").write_text("gelu = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert protocol.Subject("their_loop").gelu(2.0) == 2.0
    with pytest.raises(protocol.ProtocolError, match=r"plain_module has no function gelu\(x\) -> y"):
        protocol.Subject("plain_module").find("gelu")
    with pytest.raises(protocol.ProtocolError, match="cannot be imported: ModuleNotFoundError"):
        protocol.Subject("no_such_module").find("gelu")


def test_a_failure_speaks_the_grammar():
    x = np.array([0.5, 2.0])
    with pytest.raises(AssertionError) as failure:
        assertions.agrees("ACT-01", x, activation.gelu, x, dtype=np.float64)
    lines = str(failure.value).splitlines()
    assert lines[0] == "ACT-01  GELU is x Phi(x) with the exact normal distribution function"
    assert lines[1].startswith("  got 0.5, expected 0.3457")
    assert lines[1].endswith("x the derived bound")
    assert lines[2].startswith("  first difference: [0]; largest error anywhere: ")
    starts = ["why it matters: ", "look for: ", "rule: docs/rules/act-01.md", 'reproduce: pytest "']
    assert all(line.startswith(f"  {start}") for line, start in zip(lines[3:], starts, strict=True))


def test_bytes_are_compared_as_bytes():
    assertions.same_bytes("ACT-01", np.array([np.nan]), np.array([np.nan]), "x")
    for got, expected, found in (
        (np.array([0.0]), np.array([-0.0]), "first difference: [0]; 1 of 1"),
        (np.float64(1.0), np.float64(2.0), "first difference: the value itself"),
        (np.zeros(2, dtype=np.float32), np.zeros(2), r"got float32(2,), expected float64(2,)"),
    ):
        with pytest.raises(AssertionError) as failure:
            assertions.same_bytes("ACT-01", got, expected, "x")
        assert found in str(failure.value)


def test_margins_remember_the_largest_share_of_a_bound():
    with recording(Record()) as record:
        for error in (0.25, 0.5, 0.125):
            expected = bounds.Bounded(np.array([1.0]), np.array([1.0]))
            assertions.within("ACT-01", np.array([1.0 + error]), expected, np.float32)
    assert record.margins == {("ACT-01", "float32"): 0.5}
