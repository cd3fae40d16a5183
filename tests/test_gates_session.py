"""What `pytest gates/` says and returns when not everything ran: tried on whole sessions."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gates.verdict.badge import RED, YELLOW
from gates.verdict.definition import gates_of
from honestloop.description import Level
from honestloop.suite_location import ROOT

SCORER = "gates/test_perplexity.py::test_uniform_weights_have_perplexity_v"
SKIP_ALL = """
import pytest
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.skip(reason="no time today"))
"""


def session(
    tmp_path: Path, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, object] | None]:
    """Run pytest on the gates; its end, and the badge it wrote, if any."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        f"cache_dir={tmp_path}/cache",
        "--runs",
        str(tmp_path / "runs"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    badge = tmp_path / "runs" / "badge.json"
    return done, json.loads(badge.read_bytes()) if badge.exists() else None


def test_a_part_that_passes_is_incomplete_and_not_green(tmp_path):
    done, badge = session(tmp_path, SCORER)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert " INCOMPLETE, " in done.stdout
    assert badge is not None
    assert badge["color"] == YELLOW


def test_skipped_gates_fail_the_verdict_and_the_session(tmp_path):
    (tmp_path / "skip_all.py").write_text(SKIP_ALL, encoding="utf-8")
    done, badge = session(tmp_path, "-p", "skip_all", "gates/")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert " FAILED " in done.stdout
    assert badge is not None
    assert badge["color"] == RED


def test_a_subject_that_is_not_there_is_one_line_and_no_verdict(tmp_path):
    done, badge = session(tmp_path, "--impl", "no_such_subject", "gates/")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: no such subject: no_such_subject (no module no_such_subject in " in done.stderr
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1
    assert badge is None


def test_a_subject_that_cannot_be_started_fails_in_one_line_a_check(tmp_path):
    (tmp_path / "breaks_at_once.py").write_text("raise SystemExit('it does not start')\n", encoding="utf-8")
    selected = "test_the_file_name_carries_the_hash or test_overlapping_splits_are_refused"
    done, badge = session(tmp_path, "--impl", "breaks_at_once", "gates/", "-k", selected)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "GATE reload / run: no evidence; got `python -m breaks_at_once train" in done.stdout
    assert "Traceback" not in done.stdout
    assert badge is not None
    assert badge["color"] == RED


NO_TABLE = """
from fixtures.controls.shared import table
def read(path):
    raise table.ControlError(f"{path}: because=words() is not a literal")
table._read = read
"""


def test_a_control_that_cannot_be_read_is_one_line_and_no_verdict(tmp_path):
    (tmp_path / "no_table.py").write_text(NO_TABLE, encoding="utf-8")
    done, badge = session(tmp_path, "-p", "no_table", SCORER)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "because=words() is not a literal" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert badge is None


KILL = """
import os, signal
def pytest_runtest_setup(item):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_a_green_badge(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "badge.json").write_text('{"color": "brightgreen"}', encoding="utf-8")


def test_a_session_that_is_killed_leaves_no_green_badge(tmp_path):
    leave_a_green_badge(tmp_path)
    (tmp_path / "kill.py").write_text(KILL, encoding="utf-8")
    done, badge = session(tmp_path, "-p", "kill", SCORER)
    assert done.returncode == -signal.SIGKILL, done.stdout
    assert badge is not None
    assert badge["message"] == f"incomplete: passed 0 of {len(gates_of(Level.PHASE_18))} gates"


def test_a_session_without_a_terminal_reporter_writes_its_verdict(tmp_path):
    leave_a_green_badge(tmp_path)
    done, badge = session(tmp_path, "-p", "no:terminalreporter", SCORER)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert badge is not None
    assert badge["color"] == YELLOW
    said = json.loads((tmp_path / "runs" / "verdict.json").read_bytes())
    assert any(check["verdict"] == "PASSED" for gate in said["gates"] for check in gate["checks"])


def test_listing_the_tests_is_no_verdict(tmp_path):
    done, badge = session(tmp_path, "--collect-only", "gates/")
    assert done.returncode == pytest.ExitCode.OK
    assert badge is None


READ_VERDICT = """
import pathlib
def pytest_runtest_setup(item):
    runs = pathlib.Path(item.config.getoption("--runs"))
    (runs / "during.txt").write_text((runs / "verdict.json").read_text())
"""


def test_the_seeds_are_written_when_everything_is_over(tmp_path):
    (tmp_path / "read_verdict.py").write_text(READ_VERDICT, encoding="utf-8")
    seeds = ("--blind-seed", "918273645", "--kill-seed", "546372819")
    done, _ = session(tmp_path, "-v", "-p", "read_verdict", *seeds, SCORER)
    before, _, after = done.stdout.partition("to repeat this")
    during = (tmp_path / "runs" / "during.txt").read_text(encoding="utf-8")
    written = (tmp_path / "runs" / "verdict.json").read_text(encoding="utf-8")
    assert "the seeds are told at the end" in before
    for seed in seeds[1::2]:
        assert seed not in before + during
        assert seed in after
        assert seed in written
