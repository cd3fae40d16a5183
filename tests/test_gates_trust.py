"""What a subject may write is neither imported by the gates nor taken for their verdict."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gates.verdict.files import changed, write
from gates.verdict.outcome import FAILED, Verdict
from honestloop.search_path import installed_first
from honestloop.suite_location import ROOT

SCORER = "gates/test_perplexity.py::test_uniform_weights_have_perplexity_v"
NAMES = ("jsonschema", "mlflow", "psutil", "rfc8785", "rich", "tomli_w", "sqlalchemy", "alembic")
MARKS = (
    "import pathlib\npathlib.Path(__file__).with_suffix('.imported').touch()\nraise ImportError(__name__)\n"
)


def test_installed_packages_come_first_and_the_others_keep_their_order(tmp_path):
    installed = next(entry for entry in sys.path if entry.endswith("site-packages"))
    path = [str(tmp_path), "", installed, "/b", "/a"]
    installed_first(path)
    assert path == [installed, str(tmp_path), "", "/b", "/a"]


def session(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    places = ["-o", f"cache_dir={tmp_path}/cache", "--runs", str(tmp_path / "runs")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *places, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_modules_on_the_python_path_are_not_imported_by_the_gates(tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(MARKS)
    done = session(tmp_path, "gates/", "-k", "uniform_weights", PYTHONPATH=str(tmp_path))
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert [path.name for path in tmp_path.glob("*.imported")] == []


WATCHES = """
import sys
from gates.subject.process import Process
known = set()
start = Process.__init__
def first(self, *arguments, **named):
    known.update(sys.modules)
    return start(self, *arguments, **named)
Process.__init__ = first
def pytest_unconfigure(config):
    print("LATE", *sorted({name.partition(".")[0] for name in sys.modules.keys() - known} - known))
"""
DIES = 'raise SystemExit("no")\n'


def test_what_judges_is_imported_before_the_first_subject_starts(tmp_path):
    (tmp_path / "watches.py").write_text(WATCHES)
    (tmp_path / "dies_at_once.py").write_text(DIES)
    files = [f"gates/test_{name}.py" for name in ("mlflow", "manifest", "drift", "reload")]
    options = ("-p", "watches", "-s", "--impl", "dies_at_once", "-k", "not refuses")
    done = session(tmp_path, *files, *options, PYTHONPATH=str(tmp_path))
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("LATE"))
    assert set(line.split()[1:]) <= {*sys.stdlib_module_names, "__mp_main__"}


def verdict() -> Verdict:
    return Verdict("impl")


def test_a_verdict_that_was_not_touched_is_what_was_written(tmp_path):
    assert changed(write(verdict(), tmp_path)) == []


@pytest.mark.parametrize("name", ["verdict.json", "badge.json", "badge.svg"])
def test_a_verdict_that_was_changed_is_one_line(tmp_path, name):
    said = write(verdict(), tmp_path)
    (tmp_path / name).write_text('{"verdict": "PASSED"}')
    (line,) = changed(said)
    assert line.startswith(
        f"GATE verdict / {name}: got other 21 characters, written by somebody else, expected"
    )
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    (line,) = changed(said)
    assert "got a FIFO" in line
    (tmp_path / name).unlink()
    assert "got no such file" in changed(said)[0]


def test_half_a_letter_in_a_verdict_is_written_all_the_same(tmp_path):
    v = verdict()
    v.notes.append("\ud800")
    write(v, tmp_path)
    assert json.loads((tmp_path / "verdict.json").read_bytes())["notes"] == ["\ud800"]


def test_files_that_somebody_changed_are_no_pass():
    v = verdict()
    v.file_problems.append("GATE verdict / verdict.json: ...")
    assert v.overall == FAILED


def test_a_verdict_that_somebody_goes_on_rewriting_is_found_out(tmp_path):
    path, over = tmp_path / "runs" / "verdict.json", threading.Event()

    def rewrite() -> None:
        while not over.is_set():
            if path.exists() and b'"PASSED!"' not in path.read_bytes():
                path.write_text('{"verdict": "PASSED!"}')
            time.sleep(0.0005)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        done = session(tmp_path, SCORER)
    finally:
        over.set()
        thread.join()
    assert done.returncode == 1
    said = " ".join((done.stdout + done.stderr).split())
    # How many characters is a matter of when it is read: a file that is being written begins empty.
    assert re.search(
        r"GATE verdict / verdict\.json: got other \d+ characters, written by somebody else", said
    )
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["a b", "50%41%", "früh #1?"])
def test_a_place_for_runs_may_have_any_name(tmp_path, name):
    done = session(tmp_path, SCORER, "--runs", str(tmp_path / name))
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / name / "verdict.json").exists()


def test_a_place_for_runs_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = session(tmp_path, SCORER, "--runs", str(tmp_path / "file" / "runs"))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: --runs: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr


FULL = """
import errno, os
from honestloop import atomic_write
class Full:
    def __getattr__(self, name):
        return getattr(os, name)
    def fsync(self, descriptor):
        if {when}:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
over = []
def pytest_runtest_logreport(report):
    over.append(report)
atomic_write.os = Full()
"""


@pytest.mark.parametrize(("when", "status"), [("True", 4), ("over", 1)])
def test_a_full_disk_is_one_line_and_leaves_no_temporary_file(tmp_path, when, status):
    (tmp_path / "full_disk.py").write_text(FULL.format(when=when))
    done = session(tmp_path, "-p", "full_disk", SCORER, PYTHONPATH=str(tmp_path))
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    assert "No space left on device" in " ".join(said.split())
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said
    assert not re.search(r"^honestloop: \S+ PASSED", said, re.MULTILINE)
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name.endswith(".tmp")] == []


def test_a_checkout_that_cannot_be_written_is_no_matter(tmp_path):
    done = session(tmp_path, "-o", "cache_dir=/proc/no/cache", SCORER)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_no_home_is_no_matter(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-o",
            f"cache_dir={tmp_path}/cache",
            "--runs",
            str(tmp_path),
            SCORER,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
