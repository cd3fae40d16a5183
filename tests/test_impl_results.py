"""What results.json says of time and memory: over all processes of a run, in seconds and bytes on every platform."""

import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from impl import loop
from impl.__main__ import main
from impl.evaluate import evaluate
from impl.report import memory
from impl.run import checkpoint, clock
from impl.run.clock import Clock, Spent
from impl.run.files import json_bytes, sha256_bytes

ROOT = Path(__file__).resolve().parents[1]
SMALL = """
batch_size = 64
steps = 6
eval_every = 1
checkpoint_every = 2
[model]
d_model = 8
n_heads = 2
n_layers = 1
d_ff = 8
"""
STATUS = "Name:\tpython\nVmPeak:\t  999999 kB\nVmHWM:\t   13604 kB\nVmRSS:\t   13000 kB\n"


@pytest.fixture(autouse=True)
def _no_tracking(monkeypatch):
    monkeypatch.setenv("HONESTLOOP_TRACKING", "off")
    monkeypatch.setenv("HONESTLOOP_PLOTS", "off")


def train(out, *options):
    (out.parent / "small.toml").write_text(SMALL)
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", "--out", str(out), *options]) == 0


def start(out, *options):
    train(out, "--config", str(out.parent / "small.toml"), *options)


def results(out):
    return json.loads((out / "results.json").read_bytes())


def tokens(out, after=0):
    log = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    return sum(line["tokens"] for line in log if line["step"] > after)


def test_a_clock_adds_up_steps_without_the_first_of_the_process(monkeypatch):
    now = iter([100.0, 101.0, 105.0, 106.0, 106.5, 110.0, 112.0, 120.0])
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: next(now)))
    measured = Clock(Spent(wall_seconds=50.0, step_seconds=4.0, step_tokens=400))  # at 100
    measured.start_step()  # at 101: the first step, which compiles, is not timed
    measured.end_step(1000)  # at 105
    measured.start_step()  # at 106
    measured.end_step(30)  # at 106.5
    measured.start_step()  # at 110
    measured.end_step(70)  # at 112
    assert measured.spent() == Spent(wall_seconds=70.0, step_seconds=6.5, step_tokens=500)  # at 120


def test_a_run_without_a_timed_step_has_no_speed():
    assert Spent().tokens_per_second is None
    assert Spent(step_seconds=2.0, step_tokens=300).tokens_per_second == 150.0


def test_a_checkpoint_without_times_counts_from_nothing():
    assert Spent.of({}) == Spent()
    assert Spent.of(Spent(3.0, 2.0, 100).as_dict()) == Spent(3.0, 2.0, 100)


def test_wall_time_and_speed_are_of_all_processes(tmp_path):
    out = tmp_path / "run"
    start(out, "--stop-after", "3")
    kept = out / "checkpoints/step-00000003/manifest.json"
    manifest = json.loads(kept.read_bytes())
    assert manifest["spent"]["wall_seconds"] > manifest["spent"]["step_seconds"] > 0
    assert manifest["spent"]["step_tokens"] == tokens(out, after=1)
    manifest["spent"] |= {"wall_seconds": 5000.0, "step_seconds": 1000.0}
    facts = {name: value for name, value in manifest.items() if name not in ("digest", "files")}
    kept.write_text(json.dumps({**manifest, "digest": sha256_bytes(json_bytes(facts))}))
    train(out, "--resume")
    timed = tokens(out, after=1) - (tokens(out, after=3) - tokens(out, after=4))  # steps 2, 3, 5 and 6
    found = results(out)
    assert 5000.0 < found["wall_seconds"] < 5100.0
    assert timed / 1100.0 < found["tokens_per_second"] < timed / 1000.0


def test_speed_does_not_count_evaluating_and_saving(tmp_path, monkeypatch):
    pause = 0.1

    def slow(function):
        def slowed(*arguments):
            time.sleep(pause)
            return function(*arguments)

        return slowed

    monkeypatch.setattr(loop, "evaluate", slow(evaluate))
    monkeypatch.setattr(checkpoint, "save", slow(checkpoint.save))
    start(tmp_path / "run")
    found = results(tmp_path / "run")
    step_seconds = tokens(tmp_path / "run", after=1) / found["tokens_per_second"]
    assert step_seconds < found["wall_seconds"] - (6 + 3) * pause


def no_resource(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)


def peak_rss(monkeypatch, value):
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=value))
    monkeypatch.setitem(sys.modules, "resource", usage)


def test_peak_memory_on_linux_is_in_kib(monkeypatch, tmp_path):
    no_resource(monkeypatch)
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "status").write_text(STATUS)
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert memory.peak_memory_bytes() == 13604 * 1024


def test_peak_memory_on_linux_without_proc_is_in_kib(monkeypatch, tmp_path):
    peak_rss(monkeypatch, 2000)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nowhere")
    assert memory.peak_memory_bytes() == 2000 * 1024


def test_peak_memory_on_macos_is_in_bytes(monkeypatch):
    peak_rss(monkeypatch, 2_000_000)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.peak_memory_bytes() == 2_000_000


def test_peak_memory_on_windows_is_the_peak_working_set(monkeypatch):
    no_resource(monkeypatch)
    monkeypatch.setattr(sys, "platform", "win32")
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=3_000_000))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    assert memory.peak_memory_bytes() == 3_000_000


def test_peak_memory_is_not_that_of_the_process_that_started_this_one():
    child = "from impl.report.memory import peak_memory_bytes; print(peak_memory_bytes())"
    script = (
        "import subprocess, sys; large = b'x' * 400_000_000\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, child], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 1_000_000 < int(done.stdout) < 300_000_000
