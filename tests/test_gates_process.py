"""What a subject's processes may do to the gates: talk without end, leave children behind, hang, die at once."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from gates.errors import GateError, RunError
from gates.subject import output
from gates.subject.pool import Pool
from gates.subject.process import UNTRACKED, Process
from honestloop.suite_location import ROOT

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands over orphans")


def start(tmp_path: Path, program: str) -> Process:
    """A Python program, started as a subject is."""
    argv = [sys.executable, "-c", program, str(tmp_path)]
    return Process(argv, cwd=tmp_path, env=UNTRACKED, output=tmp_path / "00-program")


def test_a_gigabyte_of_output_is_neither_kept_nor_written(tmp_path):
    megabytes = 1024
    program = f"import os\nfor _ in range({megabytes}):\n    os.write(1, b'x' * (1 << 20))\nprint('the end')"
    before = psutil.Process().memory_info().rss
    finished = start(tmp_path, program).wait()
    grown = psutil.Process().memory_info().rss - before
    assert finished.status == 0
    assert finished.stdout.endswith("the end\n")
    assert len(finished.stdout) <= output.LIMIT + output.BLOCK
    assert grown < 64 << 20
    written = (tmp_path / "00-program.out").read_bytes()
    assert written.startswith(b"[1,0")
    assert b"bytes before these are left out" in written[:60]
    assert len(written) < 1 << 18


def test_both_streams_are_read_while_it_runs(tmp_path):
    program = "import os\nfor n in range(64):\n    os.write(1 + n % 2, b'y' * (1 << 16))"
    assert start(tmp_path, program).wait(20).status == 0


def test_one_that_talks_is_asked_and_answers(tmp_path):
    program = (
        "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)\nsys.stderr.write('over')"
    )
    argv = [sys.executable, "-c", program]
    process = Process(argv, cwd=tmp_path, env=UNTRACKED, output=tmp_path / "00-talks", talks=True)
    process.input.write(b"a\n")
    assert process.output.read(2) == b"A\n"
    process.input.close()
    finished = process.wait(20)
    assert (finished.status, finished.stdout, finished.stderr) == (0, "", "over")


def test_what_it_said_last_is_one_printable_line(tmp_path):
    program = r"import sys; sys.stderr.write('a\nb\x1b[31m' + 'c' * 1000); sys.exit(3)"
    with pytest.raises(RunError) as raised:
        start(tmp_path, program).wait().succeeded()
    message = str(raised.value)
    assert message.isprintable()
    assert r"status 3: b\x1b[31mccc" in message
    assert len(message) < 1000


BORN = """
import os, sys, time
out = sys.argv[1]
def born(name):
    with open(os.path.join(out, name + ".tmp"), "w") as file:
        file.write(str(os.getpid()))
    os.rename(os.path.join(out, name + ".tmp"), os.path.join(out, name + ".pid"))
    time.sleep(600)
"""
CHILDREN = {
    "child": "if os.fork() == 0: born('child')\n",
    "setsid": "if os.fork() == 0:\n    os.setsid()\n    born('setsid')\n",
    "orphan": "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: born('orphan')\n    os._exit(0)\n",
    "unmarked": (
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        os.execve(sys.executable, [sys.executable, '-c', "
        "open(os.path.join(out, 'born.py')).read() + \"born('unmarked')\", out], {})\n    os._exit(0)\n"
    ),
}
WAIT = """
while not os.path.exists(os.path.join(out, {name!r} + ".pid")):
    time.sleep(0.005)
"""


def is_gone(tmp_path: Path, name: str) -> bool:
    """Whether the child that wrote its number is no more."""
    pid = int((tmp_path / f"{name}.pid").read_text())
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def with_child(tmp_path: Path, name: str, end: str) -> Process:
    """A program that leaves a child and then ends, or does not."""
    (tmp_path / "born.py").write_text(BORN)
    return start(tmp_path, BORN + CHILDREN[name] + WAIT.format(name=name) + end)


@LINUX
@pytest.mark.parametrize("name", CHILDREN)
def test_what_a_subject_leaves_behind_ends_with_it(tmp_path, name):
    assert with_child(tmp_path, name, "print('done')").wait(30).stdout == "done\n"
    assert is_gone(tmp_path, name)


@LINUX
@pytest.mark.parametrize("name", CHILDREN)
def test_what_a_hanging_subject_started_ends_with_it(tmp_path, name):
    process = with_child(tmp_path, name, "time.sleep(600)")
    with pytest.raises(RunError, match="did not end within"):
        while not (tmp_path / f"{name}.pid").exists():
            time.sleep(0.005)
        process.wait(0.1)
    assert is_gone(tmp_path, name)


@LINUX
def test_the_children_of_another_subject_are_left_alone(tmp_path):
    other, this = tmp_path / "other", tmp_path / "this"
    other.mkdir()
    this.mkdir()
    running = with_child(other, "orphan", "time.sleep(600)")
    while not (other / "orphan.pid").exists():
        time.sleep(0.005)
    with_child(this, "orphan", "").wait(30)
    assert not is_gone(other, "orphan")
    running.kill_all_of_it()
    assert is_gone(other, "orphan")


def test_a_condition_that_cannot_be_looked_at_ends_the_process(tmp_path):
    process = start(tmp_path, "import time; time.sleep(600)")

    def unreadable() -> bool:
        raise GateError("a FIFO")

    with pytest.raises(GateError, match="a FIFO"):
        process.wait_until(unreadable)
    assert process._popen.poll() == -signal.SIGKILL


def fails(trained: bool = False, wait: threading.Event | None = None):
    """A job whose process died."""

    def work() -> None:
        if wait:
            wait.wait(10)
        raise RunError("`python -m x train` ended with status 1: no", trained=trained)

    return work


def test_after_a_first_run_that_dies_the_others_of_the_subject_are_not_started():
    started: list[str] = []
    released = threading.Event()
    jobs = {
        "first": fails(wait=released),
        "quicker": fails(),
        "other": lambda: started.append("other"),
        "another": lambda: started.append("another"),
        "control": lambda: started.append("control"),
    }
    pool = Pool(jobs, jobs, ["first", "quicker", "other", "another"])
    time.sleep(0.05)  # the quicker one has failed, and the next waits for what the first does
    released.set()
    pool["control"]
    for name in ("other", "another"):
        with pytest.raises(
            GateError, match=r"^not started: the first run of the subject failed \(`python -m x"
        ):
            pool[name]
    assert started == ["control"]


@pytest.mark.parametrize("first", [fails(trained=True), lambda: None])
def test_a_later_job_that_dies_or_one_that_had_trained_stops_no_other(first):
    started: list[str] = []
    jobs = {"first": first, "second": fails(), "third": lambda: started.append("third")}
    pool = Pool(jobs, jobs, list(jobs))
    pool["third"]
    assert started == ["third"]


def test_missing_evidence_of_a_first_run_that_ended_well_stops_no_other():
    def unreadable() -> None:
        raise GateError("run directory: results.json is missing")

    assert (
        Pool({"first": unreadable, "second": lambda: 2}, ["first", "second"], ["first", "second"])["second"]
        == 2
    )


HANGS = 'module = "hangs_at_once"\n[run]\ntimeout = 2\n'


def pytest_of_gates(tmp_path: Path, *arguments: str) -> list[str]:
    places = ["-o", f"cache_dir={tmp_path}/cache", "--runs", str(tmp_path / "runs")]
    return [sys.executable, "-m", "pytest", "-q", *places, *arguments]


def test_a_subject_that_hangs_costs_its_time_limit_once(tmp_path):
    (tmp_path / "subject.toml").write_text(HANGS)
    (tmp_path / "hangs_at_once.py").write_text("import time\ntime.sleep(600)\n")
    files = [f"gates/test_{name}.py" for name in ("reload", "resume", "manifest")]
    command = pytest_of_gates(tmp_path, "--impl", str(tmp_path), *files, "-k", "not refuses")
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout
    starts = sorted((tmp_path / "runs").glob("gates/*/*/*.out"))
    assert len(starts) <= 2, starts  # two at a time
    assert (
        time.monotonic() - began < 60
    )  # twenty jobs would take twenty times the limit, and the machine may be slow
    assert (
        "got not started: the first run of the subject failed (`python -m hangs_at_once train" in done.stdout
    )
    assert "Traceback" not in done.stdout
    assert "During handling" not in done.stdout


SLOW = """
import os, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
(out / "train_log.jsonl").write_text('{"step": 1}\\n')
if os.fork() == 0:
    os.setsid()
pathlib.Path(__file__).with_name(f"{os.getpid()}.pid").write_text("")
time.sleep(600)
"""


@LINUX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_session_that_is_ended_leaves_no_training_and_says_so(tmp_path, number):
    (tmp_path / "subject.toml").write_text('module = "trains_for_ever"\n')
    (tmp_path / "trains_for_ever.py").write_text(SLOW)
    command = pytest_of_gates(tmp_path, "--impl", str(tmp_path), "gates/test_reload.py", "-k", "not refuses")
    heard = tmp_path / "said.txt"
    with heard.open("w") as out:
        session = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    limit = time.monotonic() + 120
    while len(list(tmp_path.glob("*.pid"))) < 2:
        assert time.monotonic() < limit
        assert session.poll() is None, heard.read_text()
        time.sleep(0.05)
    session.send_signal(number)
    session.wait(60)
    said = heard.read_text()
    assert session.returncode == pytest.ExitCode.INTERRUPTED, said
    name = signal.Signals(number).name
    assert f"interrupted by {name}" in said
    assert not re.search(r"^honestloop: \S+ PASSED", said, re.MULTILINE)
    assert "Traceback" not in said
    for path in tmp_path.glob("*.pid"):
        assert not psutil.pid_exists(int(path.stem))
    verdict = json.loads((tmp_path / "runs" / "verdict.json").read_bytes())
    assert verdict["interrupted"] == name
    assert verdict["verdict"] != "PASSED"


def test_how_far_the_runs_are_is_told():
    told: list[str] = []
    pool = Pool({"first": lambda: 1, "second": lambda: 2}, ["first", "second"], tell=told.append)
    assert pool["first"] + pool["second"] == 3
    pool.close()
    assert {"first: started", "second: started"} <= set(told)
    assert re.fullmatch(r"(first|second): \d\.\d s; 2 of 2 runs are over", told[-1])
