"""Runs whose settings switch on what steers them: every update is a place to stop, and nothing shows it afterwards."""

import itertools
import json
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fixtures.corpus.files import COMMITTED
from impl import loop
from impl.config import load
from impl.errors import NonFiniteError, UsageError
from impl.model.minigpt import MiniGPT
from impl.run import checkpoint, directory
from impl.run.log import TrainLog
from impl.steering import budget, steering
from impl.steering.cadence import schedule_of_events
from tests.test_impl_cli import process

SMALL = """
batch_size = 64
steps = 9
eval_every = 2
checkpoint_every = 3
[model]
d_model = 8
n_heads = 2
n_layers = 1
d_ff = 8
[optimizer]
warmup_steps = 2
"""
ALL = (
    "keep_best = true\nhalve_micro_batches = true\n"
    + SMALL
    + """
[schedule]
kind = "warmdown"
by = "time"
warmdown = 0.5
[stopping]
seconds = 6.0
excluded_updates = 2
tokens = 1000000
epochs = 3
patience = 3
min_delta = 0.06
loss_above = 50.0
z_score = 11.0
window = 5
[average]
weights = 0.75
loss = 0.9
"""
)
MACHINES = {"budget", "early_stopping", "outliers", "weight_average", "loss_average", "micro_batches"}
TRACKER: Any = SimpleNamespace(sync=lambda: None)


@pytest.fixture(autouse=True)
def a_second_each_time_the_clock_is_read(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(budget, "now", lambda: float(next(ticks)))


def new(tmp_path, text=ALL, name="run"):
    """A run directory with these settings."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    return directory.create(tmp_path / name, COMMITTED, load(file), ["test"])


def go_on(run, stop_after=None, spoil=lambda machines: None):
    """Train in this process from the newest checkpoint; the machines afterwards."""
    machines = loop.build(run)
    start = loop.restore_newest(run, machines, print)
    spoil(machines)
    with (
        loop.Stop(stop_after) as stop,
        TrainLog(run.path / directory.LOG, start.log if start else None) as log,
    ):
        loop.train(run, machines, start, log, TRACKER, stop)
    return machines


def left_by(run):
    """The log and every file of the last checkpoint and of the best, but for the manifests, which have times."""
    found = {"log": (run.path / directory.LOG).read_bytes()}
    folders = [
        checkpoint.by_step(run.path / directory.CHECKPOINTS)[0],
        *(run.path / directory.BEST).glob("*"),
    ]
    for file in (f for folder in folders for f in folder.iterdir() if f.name != checkpoint.MANIFEST):
        found[f"{file.parent.parent.name}/{file.parent.name}/{file.name}"] = file.read_bytes()
    return found


@pytest.fixture
def whole(tmp_path):
    run = new(tmp_path)
    return run, go_on(run), left_by(run)


def test_a_run_with_everything_on_can_be_stopped_after_every_update(tmp_path, whole):
    run, machines, wanted = whole
    assert set(machines.options) == MACHINES
    assert machines.scheduler.step == 8, "two updates are excluded, then six seconds of one each"
    for cut in range(1, machines.scheduler.step + 1):
        other = new(tmp_path, name=f"cut-{cut}")
        shutil.copy(run.path / directory.MANIFEST, other.path / directory.MANIFEST)
        other = directory.reopen(other.path)
        go_on(other, stop_after=cut)
        go_on(other)
        assert left_by(other) == wanted, f"stopped after update {cut}"
        shutil.rmtree(other.path)


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_a_machine_that_begins_anew_is_noticed(tmp_path, whole, machine):
    """Each one in turn, in a run that is resumed in the middle: what is left differs from the run that was not."""
    run, _, wanted = whole
    other = new(tmp_path, name="cut")
    shutil.copy(run.path / directory.MANIFEST, other.path / directory.MANIFEST)
    other = directory.reopen(other.path)
    go_on(other, stop_after=4)
    initial = {"parts": 4} if machine == "micro_batches" else loop.build(other).options[machine].state()

    def spoil(resumed):
        resumed.options[machine].restore(initial)

    go_on(other, spoil=spoil)
    assert left_by(other) != wanted


def test_a_checkpoint_without_one_of_them_is_refused(tmp_path, whole):
    run, machines, _ = whole
    newest = checkpoint.by_step(run.path / directory.CHECKPOINTS)[0]
    expected = checkpoint.Expected.of(run.manifest.run_id, machines.named())
    (newest / "weight_average.safetensors").unlink()
    with pytest.raises(UsageError, match=r"weight_average\.safetensors"):
        checkpoint.load(newest, expected)


def test_the_best_checkpoint_is_the_model_of_its_evaluation(whole):
    run, _, _ = whole
    lines = [json.loads(line) for line in (run.path / directory.LOG).read_text().splitlines()]
    scored = [(line["val_loss"], line["step"]) for line in lines if "val_loss" in line]
    (kept,) = (run.path / directory.BEST).iterdir()
    state = json.loads((kept / checkpoint.STATE).read_text())
    assert (state["best"]["val_loss"], state["best"]["step"]) == min(scored)
    assert kept.name == f"step-{min(scored)[1]:08d}" and state["step"] == min(scored)[1]
    assert len(scored) == 4 and scored[-1][1] == 8, "after every second update; the eighth is the last"
    assert all("smooth_loss" in line for line in lines) and lines[0]["smooth_loss"] == pytest.approx(
        lines[0]["loss"], rel=1e-15
    )


def test_the_default_run_has_no_machine_more(tmp_path):
    machines = loop.build(new(tmp_path, SMALL))
    assert machines.options == {} and len(machines.named()) == 5


@pytest.mark.parametrize(
    ("setting", "updates"),
    [
        ("epochs = 1", None),
        ("tokens = 1", 1),
        ("seconds = 2.5\nexcluded_updates = 1", 4),
        ("patience = 1", 9),
    ],
)
def test_what_ends_a_run(tmp_path, setting, updates):
    run = new(
        tmp_path,
        SMALL.replace("steps = 9", "steps = 9" if updates else "steps = 900") + f"[stopping]\n{setting}\n",
    )
    machines = go_on(run)
    batches = -(-len(run.sequences["train"]) // 64)
    assert machines.scheduler.step == (updates or batches)
    assert loop.finished(run, machines)
    assert "val_loss" in (run.path / directory.LOG).read_text().splitlines()[-1]
    before = left_by(run)
    assert go_on(run).scheduler.step == machines.scheduler.step
    assert left_by(run) == before, "a run that has ended goes on with nothing"


def test_memory_that_runs_out_leaves_no_trace(tmp_path, monkeypatch):
    """Every first attempt of more than 16 rows fails in its second micro-batch; dropout is on."""
    text = f"halve_micro_batches = true\n{SMALL}"
    run = new(tmp_path, text)
    small = new(tmp_path, "micro_batches = 4\n" + text, name="small")
    shutil.copy(run.path / directory.MANIFEST, tmp_path / "manifest.json")
    wanted = go_on(small)
    right, failed = MiniGPT.accumulate, []

    def fails(self, batch, dropout, tokens, nll=0.0):
        found = right(self, batch, dropout, tokens, nll)
        if len(batch.input) > 16:
            failed.append(len(batch.input))
            raise MemoryError("no room")
        return found

    monkeypatch.setattr(MiniGPT, "accumulate", fails)
    machines = go_on(run)
    assert failed[:2] == [64, 32] and len(failed) == 2, "the size that fits is kept"
    assert machines.options["micro_batches"].state() == {"parts": 4}
    for name, x in wanted.model.state().items():
        assert x.tobytes() == machines.model.state()[name].tobytes()
    log = directory.LOG
    assert (run.path / log).read_bytes() == (small.path / log).read_bytes()


def test_memory_that_one_row_does_not_fit_into_ends_the_run(tmp_path, monkeypatch):
    def fails(*arguments):
        raise MemoryError("no room")

    run = new(tmp_path, f"halve_micro_batches = true\n{SMALL}")
    monkeypatch.setattr(MiniGPT, "accumulate", fails)
    with pytest.raises(MemoryError, match="no room"):
        go_on(run)


@pytest.mark.parametrize("setting", ["loss_above = 4.5", "z_score = 3.0\nwindow = 2"])
def test_an_explosion_is_refused_before_a_parameter_changes(tmp_path, monkeypatch, setting):
    run = new(tmp_path, f"{SMALL}[stopping]\n{setting}\n")
    machines, right, losses = loop.build(run), MiniGPT.accumulate, itertools.count(1)
    seen = []

    def explodes(self, batch, dropout, tokens, nll=0.0):
        seen.append(self.flat_parameters.copy())
        return right(self, batch, dropout, tokens, nll) * (100.0 if next(losses) == 4 else 1.0)

    monkeypatch.setattr(MiniGPT, "accumulate", explodes)
    with (
        loop.Stop(None) as stop,
        TrainLog(run.path / directory.LOG) as log,
        pytest.raises(NonFiniteError, match=r"step 4: the loss is"),
    ):
        loop.train(run, machines, None, log, TRACKER, stop)
    assert np.array_equal(machines.model.flat_parameters, seen[-1]) and machines.scheduler.step == 3


def test_a_run_has_the_events_that_the_loop_says(tmp_path):
    """`schedule_of_events` is what is graded; the loop does the same."""
    run = new(tmp_path, SMALL)
    go_on(run)
    lines = [json.loads(line) for line in (run.path / directory.LOG).read_text().splitlines()]
    found = [(line["step"], "train") for line in lines]
    found += [(line["step"], "evaluate") for line in lines if "val_loss" in line]
    saved = checkpoint.by_step(run.path / directory.CHECKPOINTS)
    found += [(int(path.name.removeprefix("step-")), "save") for path in saved]
    settings = {"steps": 9, "epochs": None, "batches": 99, "accumulate": 1, "start": 0}
    said = schedule_of_events(settings | {"eval_every": 2, "sample_every": 0, "save_every": 3})
    assert sorted(found) == sorted(said)


def test_processes_leave_what_one_process_leaves(tmp_path):
    """`python -m impl`, stopped after four updates and continued, with every part on that needs no clock."""
    text = ALL.replace('by = "time"\n', "").replace("seconds = 6.0", "seconds = 0.0")
    file = tmp_path / "config.toml"
    file.write_text(text)
    folders = {name: tmp_path / name for name in ("whole", "cut")}
    for folder, stops in ((folders["whole"], [[]]), (folders["cut"], [["--stop-after", "4"], ["--resume"]])):
        for more in stops:
            settings = [] if more == ["--resume"] else ["--config", str(file)]
            done = process("train", "--out", folder, "--data", COMMITTED, *settings, *more)
            assert done.returncode == 0, done.stderr
    logs = [(folder / directory.LOG).read_bytes() for folder in folders.values()]
    assert logs[0] == logs[1]
    kept = [(folder / directory.BEST) for folder in folders.values()]
    weights = [(next(folder.iterdir()) / checkpoint.WEIGHTS).read_bytes() for folder in kept]
    assert weights[0] == weights[1]


def test_an_evaluation_that_fails_leaves_the_weights_as_they_were(tmp_path, monkeypatch):
    """Of the averaged weights, in the middle: the model's own are put back, bit for bit."""
    run = new(tmp_path, f"{SMALL}[average]\nweights = 0.5\n")
    machines, seen = loop.build(run), []

    def fails(model, sequences, batch_size):
        seen.append(model.flat_parameters.copy())
        raise ZeroDivisionError("in the middle")

    after = steering.Steering.after_update

    def noted(self, model, *numbers):
        seen.append(model.flat_parameters.copy())
        return after(self, model, *numbers)

    monkeypatch.setattr(loop, "evaluate", fails)
    monkeypatch.setattr(steering.Steering, "after_update", noted)
    with (
        loop.Stop(None) as stop,
        TrainLog(run.path / directory.LOG) as log,
        pytest.raises(ZeroDivisionError, match="in the middle"),
    ):
        loop.train(run, machines, None, log, TRACKER, stop)
    own, averaged = seen[1:]
    assert machines.model.flat_parameters.tobytes() == own.tobytes() != averaged.tobytes()
