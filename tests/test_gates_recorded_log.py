"""The log of a recorded run: every number that follows from others, each with a run in which it does not."""

import json
import math
import shutil

import numpy as np
import pytest

from gates.errors import GateError
from gates.judge import recorded_log, recorded_run
from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.judge.recorded_log import LogFacts
from gates.subject.recorded_directory import RecordedDirectory
from gates.subject.tensors import read, write
from honestloop.conventions import LEGAL
from honestloop.description import Layout
from reference.arithmetic import SINGLE
from reference.schedule import learning_rate
from tests.recorded_in_process import DESCRIPTION, InProcess
from tests.recorded_updates import declared

STEPS = 40
FACTS = LogFacts(STEPS, SINGLE, 149)
TOLD = {"steps": STEPS, "checkpoint_every": 10, "seed": 1}


@pytest.fixture(scope="module")
def correct(tmp_path_factory):
    """A run without a mistake."""
    return InProcess(tmp_path_factory.mktemp("correct")).recorded()


def optimizer(run):
    """What a run declares."""
    return DeclaredOptimizer.read(DESCRIPTION, run.config, STEPS)


def changed(run, to, *changes):
    """A copy of a run in which fields of lines are others; (step, field, value), None for no such field."""
    shutil.copytree(run.path, to)
    lines = [dict(line) for line in run.log]
    for step, name, value in changes:
        lines[step - 1] |= {name: value}
        if value is None:
            del lines[step - 1][name]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (to / "train_log.jsonl").write_text(text)
    return RecordedDirectory(to, run.layout)


def test_a_correct_run_is_accepted(correct):
    found = recorded_log.log(correct, FACTS)
    assert found.passed, found.message
    assert found.figure == "40 lines, 472 fields: 0 wrong"
    for finding in (
        recorded_run.schedule(optimizer(correct), [correct.log]),
        recorded_run.declared(DESCRIPTION, correct, TOLD),
        recorded_run.cadence(correct, 10),
        recorded_run.finite([correct]),
    ):
        assert finding.passed, finding.message


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("ppl of base 2", "step 23: ppl is not exp(loss)"),
        ("val_ppl of base 2", "step 25: val_ppl is not exp(val_loss)"),
        ("tokens counted twice", "step 23: total_tokens is not the sum of tokens"),
        ("too fast", "step 23: tokens_per_second"),
        ("time runs backwards", "step 23: elapsed_seconds runs backwards"),
        ("a step twice", "line 23: step does not count by one"),
        ("epoch goes back", "step 23: epoch goes back"),
    ],
)
def test_a_number_that_does_not_follow_is_refused(tmp_path, mistake, says):
    found = recorded_log.log(InProcess(tmp_path, mistake, since=23).recorded(), FACTS)
    assert not found.passed
    assert says in found.message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([(7, "lr", None)], "step 7: lr is not a number; got None, expected a number"),
        ([(7, "loss", "2.5")], "step 7: loss is not a number; got 2.5"),
        ([(7, "skipped", 1)], "step 7: skipped; got 1, expected true or false"),
        (
            [(10, "best_val_loss", 0.1)],
            "step 10: best_val_loss is not that of the least val_loss so far; got 0.1",
        ),
        ([(30, "best_step", 40)], "step 30: best_step is not that of the least val_loss so far"),
        ([(7, "seconds", -1.0)], "step 7: seconds is negative"),
        ([(7, "tokens", -16)], "step 7: tokens (and "),
        ([(7, "tokens_per_second", 63.0)], "step 7: tokens_per_second is not tokens / seconds; got 63.0"),
        (
            [(7, "time", "2026-01-02T00:00:00"), (8, "time", "2026-01-01T00:00:00")],
            "step 8: time runs backwards",
        ),
    ],
)
def test_a_field_that_is_wrong_is_refused(tmp_path, correct, changes, says):
    found = recorded_log.log(changed(correct, tmp_path / "run", *changes), FACTS)
    assert says in found.message


def test_a_skipped_update_may_have_no_loss(tmp_path, correct):
    run = changed(correct, tmp_path / "run", (7, "skipped", True), (7, "loss", None), (7, "ppl", None))
    assert recorded_log.log(run, FACTS).passed


def test_equal_scores_keep_the_first(tmp_path, correct):
    """The second of two equal validation losses is not the best."""
    low = [
        (5, "val_loss", 0.5),
        (5, "val_ppl", math.exp(0.5)),
        (5, "best_val_loss", 0.5),
        (5, "best_step", 5),
    ]
    for step in range(10, 41, 5):
        low += [(step, "val_loss", 0.5), (step, "val_ppl", math.exp(0.5)), (step, "best_val_loss", 0.5)]
        low += [(step, "best_step", 5)]
    assert recorded_log.log(changed(correct, tmp_path / "a", *low), FACTS).passed
    last = changed(correct, tmp_path / "b", *low, (40, "best_step", 40))
    assert "step 40: best_step is not" in recorded_log.log(last, FACTS).message


def test_a_log_is_as_long_as_the_run(correct):
    found = recorded_log.log(correct, LogFacts(60, SINGLE))
    assert "lines of the log; got 40, expected 60, the updates" in found.message


def test_a_loss_in_float32_has_a_perplexity_in_float32(tmp_path, correct):
    """exp in single precision is within its bound; of two numbers in double precision it is not."""
    rounded = float(np.exp(np.float32(correct.log[6]["loss"])))
    run = changed(correct, tmp_path / "run", (7, "ppl", rounded))
    assert recorded_log.log(run, FACTS).passed
    assert not recorded_log.log(run, LogFacts(STEPS)).passed


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ({"val_loss": 1.0, "val_ppl": 2.0}, "results.json: val_ppl is not exp(val_loss)"),
        ({"wall_seconds": -5}, "results.json: wall_seconds is negative"),
        ({"total_tokens": 7}, "results.json: total_tokens is not that of the log; got 7, expected 640"),
        ({"steps": 41}, "results.json: steps is not that of the log; got 41, expected 40"),
        ({"best_step": 1}, "results.json: best_step is not that of the least val_loss so far; got 1"),
        ({"val_loss": 17.0}, "results.json: val_loss is neither the last nor the best of the log"),
    ],
)
def test_final_numbers_are_those_of_the_log(tmp_path, correct, results, says):
    run = changed(correct, tmp_path / "run")
    (run.path / "results.json").write_text(json.dumps(results))
    assert says in recorded_log.log(run, FACTS).message
    right = {"steps": 40, "total_tokens": 640, "val_loss": run.log[-1]["val_loss"], "wall_seconds": 3.5}
    (run.path / "results.json").write_text(json.dumps(right))
    assert recorded_log.log(run, FACTS).passed


def test_what_is_no_json_is_said_in_one_line(tmp_path, correct):
    run = changed(correct, tmp_path / "run")
    (run.path / "train_log.jsonl").write_text('{"step": 1}\nnonsense\n')
    with pytest.raises(GateError, match=r"train_log\.jsonl: line 2 is not valid JSON"):
        _ = RecordedDirectory(run.path, run.layout).log
    (run.path / "train_log.jsonl").write_text("[1]\n")
    with pytest.raises(GateError, match="line 1 is not a JSON object"):
        _ = RecordedDirectory(run.path, run.layout).log


# ---- schedule, declaration, cadence, finiteness


def test_the_logged_rate_is_that_of_the_schedule(tmp_path):
    run = InProcess(tmp_path, "rate logged", since=30, until=30).recorded()
    found = recorded_run.schedule(optimizer(run), [run.log])
    assert "lr of step 30 is not that of the schedule 'honestloop'; got 0.000" in found.message


@pytest.mark.parametrize("table", LEGAL["schedule"])
@pytest.mark.parametrize("other", ["honestloop", "linear", "constant"])
def test_every_schedule_is_told_from_others(table, other):
    spec = declared(schedule=table)
    ends = {"peak": spec.peak, "floor": spec.floor, "warmup": spec.warmup, "total": 14}
    lines = [{"step": s + 1, "lr": learning_rate(s, **ends, schedule=table)} for s in range(14)]
    assert recorded_run.schedule(spec, [lines]).passed
    equal = other == table or (other, table) in (("honestloop", "torchtitan"), ("honestloop", "uncut"))
    if not equal:  # up to the horizon, with a warm-up that is shorter
        found = recorded_run.schedule(declared(schedule=other), [lines])
        assert not found.passed
        assert "behaves like: the rate of" in found.message


def test_a_schedule_that_is_one_update_late_gets_its_name():
    spec = declared(schedule="linear")
    lines = [{"step": s + 1, "lr": spec.rate(s + 1)} for s in range(13)]
    found = recorded_run.schedule(spec, [lines])
    assert "behaves like: the rate of the update after of the schedule 'linear'" in found.message


@pytest.mark.parametrize("ticks", [True, False])
def test_a_skipped_update_may_tick_or_not_but_not_both(ticks):
    spec = declared(schedule="linear")
    rates = [spec.rate(s - (not ticks and s > 6)) for s in range(14)]
    lines = [{"step": s + 1, "lr": lr, "skipped": s == 6} for s, lr in enumerate(rates)]
    assert recorded_run.schedule(spec, [lines]).passed
    lines[-1]["lr"] = spec.rate(13 - ticks)
    assert not recorded_run.schedule(spec, [lines]).passed


def test_a_schedule_of_ones_own_is_judged_by_its_range():
    spec = declared(schedule="own")
    lines = [{"step": s + 1, "lr": 1e-3 * (s % 3)} for s in range(9)]
    found = recorded_run.schedule(spec, [lines])
    assert found.passed
    assert "a schedule of its own" in found.figure
    lines[4]["lr"] = 1.0
    assert "lr of step 5 is out of range" in recorded_run.schedule(spec, [lines]).message


def test_a_manifest_that_says_otherwise_is_refused(tmp_path, correct):
    run = changed(correct, tmp_path / "run")
    said = json.loads((run.path / "manifest.json").read_bytes())
    said["config"]["optimizer"]["beta2"] = 0.95
    (run.path / "manifest.json").write_text(json.dumps(said))
    found = recorded_run.declared(DESCRIPTION, RecordedDirectory(run.path), TOLD)
    assert "config.optimizer.beta2 is not what [optimizer] says; got 0.95, expected 0.99" in found.message
    found = recorded_run.declared(DESCRIPTION, correct, TOLD | {"seed": 2})
    assert "config.seed is not what the run was told; got 1, expected 2" in found.message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"peak_lr": None}, "config.optimizer: float"),
        ({"beta1": 1.5}, "beta1 1.5"),
        ({"schedule": "mine"}, "schedule 'mine' is none of"),
    ],
)
def test_a_declaration_that_cannot_be_read_is_said_in_one_line(settings, says):
    with pytest.raises(GateError, match=says):
        declared(**settings)


def test_a_declaration_that_lacks_something_says_what():
    with pytest.raises(GateError, match=r"config\.optimizer has no peak_lr, nor has \[optimizer\]"):
        DeclaredOptimizer.read(declared_nothing(), {}, 10)


def declared_nothing():
    """A description without [optimizer]."""
    return type(DESCRIPTION)("bare", DESCRIPTION.level)


def test_what_is_due_is_there(tmp_path, correct):
    late = InProcess(tmp_path, "saves late").recorded()
    found = recorded_run.cadence(late, 10)
    assert "checkpoints: there is none of step 10 (and 1 more); got [1, 11, 21, 31, 40]" in found.message
    run = changed(correct, tmp_path / "a", (15, "val_loss", None), (16, "val_loss", 2.0))
    assert "evaluations: there is none of step 15 (and 1 more)" in recorded_run.cadence(run, 10).message
    run = changed(correct, tmp_path / "b")
    shutil.rmtree(run.checkpoints()[40])
    assert "checkpoints: there is none of step 40" in recorded_run.cadence(run, 10).message
    assert "none of step 40" in recorded_run.cadence(run, None).message  # by its own configuration


def test_nothing_that_is_not_finite_is_kept(tmp_path):
    lost = InProcess(tmp_path / "a", "loss is NaN", since=12, until=12).recorded()
    assert "step 12: loss is not finite; got nan" in recorded_run.finite([lost]).message
    run = InProcess(tmp_path / "b").recorded()
    file = run.checkpoints()[20] / "optimizer.safetensors"
    tensors = {name: x.copy() for name, x in read(file.read_bytes()).items()}
    tensors["v.a.bias"][3] = np.inf
    file.write_bytes(write(tensors))
    found = recorded_run.finite([run])
    assert "checkpoint 20: optimizer.safetensors: v.a.bias is not finite" in found.message


def test_a_layout_of_ones_own_is_read(tmp_path):
    layout = Layout(
        checkpoints="ckpt/{step}", weights="all.safetensors", optimizer="all.safetensors", m="{name}/m"
    )
    folder = tmp_path / "ckpt" / "7"
    folder.mkdir(parents=True)
    (tmp_path / "ckpt" / "8.tmp").mkdir()
    x = np.arange(3, dtype=np.float32)
    tensors = {"w": x, "w/m": x + 1, "v.w": x + 2, "t": np.asarray([7]), "ids": np.arange(3)}
    (folder / "all.safetensors").write_bytes(write(tensors))
    found = RecordedDirectory(tmp_path, layout).snapshot(7)
    assert (found.step, found.t, list(found.p), list(found.m), list(found.v)) == (7, 7, ["w"], ["w"], ["w"])
    assert list(RecordedDirectory(tmp_path, layout).checkpoints()) == [7]
    with pytest.raises(GateError, match=r"has no \{step\} in its last part"):
        RecordedDirectory(tmp_path, Layout(checkpoints="{step}/x")).checkpoints()


def test_a_run_with_muon_is_not_judged_as_one_of_adamw():
    config = {"muon": {"enabled": True}}
    with pytest.raises(GateError, match=r"not judged: config\.muon is enabled"):
        DeclaredOptimizer.read(DESCRIPTION, config, 10)
