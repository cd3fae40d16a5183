"""A subject that ends, skips or patches what grades it does not end in status 0."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RIGHT = "import math\ndef perplexity(n, t):\n    return math.exp(n / t) if n / t < 709 else math.inf\n"
ENDS = {
    "exits in a function": "import os\ndef perplexity(n, t):\n    os._exit(0)\n",
    "exits on import": "import os\nos._exit(0)\n",
    "exits by another program": "import os\ndef perplexity(n, t):\n    os.execv('/bin/true', ['true'])\n",
    "exits in C": "import ctypes\ndef perplexity(n, t):\n    ctypes.CDLL(None)._exit(0)\n",
    "exits from a thread": (
        "import os, threading, time\ndef perplexity(n, t):\n"
        "    threading.Thread(target=os._exit, args=(0,)).start()\n    time.sleep(5)\n"
    ),
}
WRONG = {
    "exits at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef perplexity(n, t):\n    return n / t\n",
    "skips": "import pytest\ndef perplexity(n, t):\n    pytest.skip('no')\n",
    "skips on import": "import pytest\npytest.skip('no', allow_module_level=True)\n",
    "returns what skips": (
        "import pytest\nclass Odd:\n    def __float__(self):\n        pytest.skip('no')\n"
        "    __array__ = __sub__ = __rsub__ = __eq__ = __float__\n"
        "def perplexity(n, t):\n    return Odd()\n"
    ),
    "ends the session": (
        "import pytest\ndef perplexity(n, t):\n    raise pytest.exit.Exception('well done', returncode=0)\n"
    ),
    "patches the reports": (
        "from _pytest import reports, runner\n"
        "make = reports.TestReport.from_item_and_call.__func__\n"
        "def passed(cls, item, call):\n    call.excinfo = None\n    return make(cls, item, call)\n"
        "reports.TestReport.from_item_and_call = classmethod(passed)\n"
        "def perplexity(n, t):\n    return n / t\n"
    ),
}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A module of Python, with modules of ours and of `folder` to be found."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder if command[0] == "honestloop" else ROOT,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def graded(folder: Path, program: str, how: str) -> subprocess.CompletedProcess[str]:
    (folder / "theirs.py").write_text("CAPABILITIES = ['perplexity']\n" + program)
    if how == "command":
        return run(folder, "honestloop", "check", "theirs")
    files = ("properties/test_perplexity.py", "properties/test_contract.py")
    return run(folder, "pytest", "-q", *files, "--impl", "theirs", "-o", f"cache_dir={folder}/cache")


@pytest.mark.parametrize("how", ["command", "pytest"])
@pytest.mark.parametrize("name", ENDS)
def test_a_subject_that_ends_its_process_is_one_line_and_a_failure(tmp_path, name, how):
    done = graded(tmp_path, ENDS[name], how)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "the subject ended the process that grades it, with status 0, " in line
    assert "nothing after that was graded" in line


@pytest.mark.parametrize("how", ["command", "pytest"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_subject_that_plays_with_the_grader_fails(tmp_path, name, how):
    done = graded(tmp_path, WRONG[name], how)
    assert done.returncode in (1, 4), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout


@pytest.mark.parametrize("how", ["command", "pytest"])
def test_a_right_subject_holds_all_the_same(tmp_path, how):
    done = graded(tmp_path, RIGHT, how)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules hold, 0 are broken" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("how", "status"), [("command", 3), ("pytest", 5)])
def test_nothing_that_was_graded_is_no_pass(tmp_path, how, status):
    done = graded(tmp_path, "CAPABILITIES = []\n", how)
    assert done.returncode == status, done.stdout + done.stderr
    assert "nothing was graded" in done.stdout


def test_a_session_that_skips_its_properties_is_no_pass(tmp_path):
    (tmp_path / "skip_all.py").write_text(
        "import pytest\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items[1:]:\n        item.add_marker(pytest.mark.skip(reason='no time'))\n"
    )
    (tmp_path / "theirs.py").write_text("CAPABILITIES = ['perplexity']\n" + RIGHT)
    done = run(
        tmp_path, "pytest", "-q", "-p", "skip_all", "properties/test_perplexity.py", "--impl", "theirs"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not graded: properties/test_perplexity.py::" in done.stdout


def test_the_status_of_a_grading_is_passed_on(tmp_path):
    done = run(tmp_path, "honestloop", "check", "no_such_loop")
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)
    assert done.stdout == ""
