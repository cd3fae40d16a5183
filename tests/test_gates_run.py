"""Starting, interrupting and watching a subject, tried on a tiny one that only counts."""

import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from gates.errors import GateError
from gates.subject import process
from gates.subject.pool import Pool
from gates.subject.process import Subject
from gates.subject.run_directory import RunDirectory
from honestloop.suite_location import ROOT

COUNTER = """
import os, pathlib, signal, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
stop = []
signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
with (out / "train_log.jsonl").open("w") as log:
    for step in range(int(os.environ["STEPS"])):
        if stop:
            break
        log.write('{"step": %d}\\n' % (step + 1))
        log.flush()
        time.sleep(0.005)
print("done")
sys.stderr.write(os.environ.get("SAYS", ""))
sys.exit(int(os.environ.get("STATUS", "0")))
"""


@pytest.fixture
def counter(tmp_path, monkeypatch):
    (tmp_path / "tiny_counter.py").write_text(COUNTER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def subject(**env: str) -> Subject:
        return Subject("tiny_counter", tmp_path / "home", env)

    return subject


def test_a_run_that_ends_well_is_read(counter):
    directory = counter(STEPS="2").train()
    assert [line["step"] for line in directory.log] == [1, 2]


def test_a_run_that_ends_badly_says_how_in_one_line(counter):
    with pytest.raises(
        GateError, match=r"^`python -m tiny_counter train .*` ended with status 3: the last line$"
    ):
        counter(STEPS="0", STATUS="3", SAYS="a traceback\nthe last line\n").train()


def test_a_subject_that_is_no_module_is_evidence_of_nothing(tmp_path):
    with pytest.raises(GateError, match="No module named no_such_subject"):
        Subject("no_such_subject", tmp_path).train()


def test_sigkill_comes_when_the_log_has_that_many_lines(counter):
    subject = counter(STEPS="2000")
    finished = subject.interrupt(signal.SIGKILL, 5)
    assert finished is not None
    assert finished.status == -signal.SIGKILL
    assert 5 <= RunDirectory(subject.home / "run").logged_steps() < 200


def test_sigterm_lets_the_subject_end_itself(counter):
    finished = counter(STEPS="2000").interrupt(signal.SIGTERM, 5)
    assert finished is not None
    assert (finished.status, finished.stdout) == (0, "done\n")


def test_a_run_that_ended_before_the_signal_was_not_interrupted(counter):
    assert counter(STEPS="3").interrupt(signal.SIGKILL, 5) is None


def test_a_run_that_does_not_end_is_killed(counter):
    process = counter(STEPS="100000").start("train", "--out", counter(STEPS="1").home / "run")
    with pytest.raises(GateError, match="did not end within 0 s"):
        process.wait(0.2)
    assert process._popen.poll() == -signal.SIGKILL


def test_missing_and_broken_files_are_named(tmp_path):
    directory = RunDirectory(tmp_path)
    (tmp_path / "results.json").write_bytes(b"{")
    (tmp_path / "w.safetensors").write_bytes(b"")
    (tmp_path / "train_log.jsonl").write_bytes(b'{"step": 1}\n{"st')
    for read, says in (
        (lambda: directory.read("manifest.json"), "manifest.json is missing"),
        (lambda: directory.json("results.json"), "results.json is not valid JSON"),
        (lambda: directory.tensors("w.safetensors"), "w.safetensors: the first 8 bytes"),
        (lambda: directory.log, "not valid JSON Lines"),
        (lambda: directory.last_checkpoint(), "no checkpoint"),
        (lambda: directory.model_name, "0 model files"),
    ):
        with pytest.raises(GateError, match=says):
            read()
    assert directory.logged_steps() == 1


def test_checkpoints_are_in_order_of_steps_and_temporary_ones_do_not_count(tmp_path):
    for name in ("step-00000010", "step-00000009", ".step-00000011.7.tmp", "step-12"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert list(RunDirectory(tmp_path).checkpoints()) == [9, 10]


def test_the_pool_runs_only_what_is_needed():
    done: list[str] = []
    pool = Pool({name: partial(done.append, name) for name in "abc"}, ["a", "b", "b"])
    for name in "ab":
        assert pool[name] is None
    assert sorted(done) == ["a", "b"]
    with pytest.raises(GateError, match="job 'c' was not started"):
        pool["c"]


def test_the_pool_keeps_the_order_of_need():
    order: list[str] = []
    gate = threading.Event()
    jobs = {name: partial(order.append, name) for name in "abc"} | {f"block{n}": gate.wait for n in range(2)}
    pool = Pool(jobs, ["block0", "block1", "c", "b", "a"])
    gate.set()
    for name in "abc":
        assert pool[name] is None
    assert order.index("a") > 0  # two workers may swap neighbours


def test_the_pool_runs_two_at_a_time():
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    started = Pool({str(n): work for n in range(6)}, map(str, range(6)))
    for n in range(6):
        started[str(n)]
    assert most == 2
    assert started.seconds.keys() == set(map(str, range(6)))


def test_the_pool_hands_on_what_a_job_raised():
    def work() -> None:
        raise GateError("no evidence")

    with pytest.raises(GateError, match="no evidence"):
        Pool({"a": work}, "a")["a"]


def test_the_caller_cannot_turn_tracking_off_nor_move_it(monkeypatch):
    for name in process.NOT_INHERITED:
        monkeypatch.setenv(name, "off")
    assert not process.environment({}).keys() & set(process.NOT_INHERITED)
    assert process.environment(process.UNTRACKED)["HONESTLOOP_TRACKING"] == "off"


def test_processes_run_from_the_repository_root_with_one_thread(tmp_path, monkeypatch):
    (tmp_path / "tiny_where.py").write_text(
        "import os; print(os.getcwd(), os.environ['OMP_NUM_THREADS'])", encoding="utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert Subject("tiny_where", tmp_path / "home").run("train").stdout.split() == [str(ROOT), "1"]
    assert Path(sys.executable).exists()
