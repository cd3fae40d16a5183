"""The update gate on updates that were made by the oracle: right ones pass, and every mistake is found and named."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fixtures.corpus import files
from gates.errors import GateError
from gates.judge import (
    first_weights,
    known_mistakes,
    log_checks,
    replay,
    resume,
    scoring,
    update,
    within_bounds,
)
from gates.judge.replay import Law
from gates.judge.run_record import NAMES, Settings, State, TrainingPlan
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from gates.subject.stepwise_runs import OPTIMIZER
from gates.subject.tampering import Resumed
from reference import model

DTYPES = ("float32", "float64")
SETTINGS = Settings(
    seed=3,
    dtype="float32",
    steps=12,
    batch_size=4,
    dropout=0.1,
    eval_every=5,
    checkpoint_every=1,
    optimizer=dict(OPTIMIZER),
)
EPOCH = 4  # updates; the last batch of an epoch has two rows


@functools.cache
def sequences() -> list[list[int]]:
    scorer = scoring.ReferenceScorer(files.read_directory()["train"])
    return scorer.train[: 4 * EPOCH - 2]


def plan(**changes: float) -> TrainingPlan:
    return TrainingPlan(
        dataclasses.replace(SETTINGS, optimizer={**SETTINGS.optimizer, **changes}), sequences()
    )


@functools.cache
def somewhere(dtype: str = "float32") -> State:
    """A state in the middle of a run: weights and moments of a likely size."""
    chance = np.random.default_rng(5)

    def drawn(deviation: float) -> dict[str, np.ndarray]:
        return {
            name: chance.normal(0.0, deviation, shape).astype(dtype).astype(np.float64)
            for name, shape in model.parameter_shapes(scoring.CONFIG).items()
        }

    weights, m, v = drawn(0.05), drawn(3e-3), {name: x * x for name, x in drawn(6e-3).items()}
    for name in NAMES:
        if name.endswith("gamma"):
            weights[name] += 1.0
    return State(
        weights, m, {name: x.astype(dtype).astype(np.float64) for name, x in v.items()}, np.dtype(dtype)
    )


@functools.cache
def expected(number: int, dtype: str, limit: float) -> replay.After:
    return replay.replay(plan(clip_norm=limit), number, somewhere(dtype))


def left(number: int, dtype: str = "float32", limit: float = 0.1, law: Law | None = None) -> State:
    """What a subject that follows the law leaves, rounded to its dtype."""
    before = somewhere(dtype)
    after = replay.replay_plainly(plan(clip_norm=limit), number, before, law or Law())

    def stored(part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: x.astype(dtype).astype(np.float64) for name, x in part.items()}

    return State(stored(after.weights), stored(after.m), stored(after.v), np.dtype(dtype))


def compared(number: int, dtype: str, limit: float, got: State) -> update.Replayed:
    bounds = expected(number, dtype, limit)
    return update.judge(plan(clip_norm=limit), number, somewhere(dtype), got, bounds, line(bounds), "")


def line(after: replay.After) -> dict[str, float]:
    return {name: float(b.value) for name, b in after.log.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [0.1, 1e3])
def test_a_right_update_passes_clipped_or_not(dtype, limit):
    found = compared(7, dtype, limit, left(7, dtype, limit))
    for check in (update.log, update.moments, update.weights):
        assert check([found]).passed, check([found]).message
    assert found.mistake == ""


@pytest.mark.parametrize("mistake", known_mistakes.MISTAKES, ids=lambda law: type(law).__name__)
def test_every_mistake_is_found_and_named(mistake):
    number = 2 if isinstance(mistake, known_mistakes.GradientKept) else 8
    limit = 1e3 if isinstance(mistake, known_mistakes.SummedLoss) else 0.1
    found = compared(number, "float64", limit, left(number, "float64", limit, mistake))
    assert not (update.moments([found]).passed and update.weights([found]).passed)
    assert found.mistake == mistake.says
    assert (
        f"behaves like: {mistake.says}" in update.weights([found]).message + update.moments([found]).message
    )


@pytest.mark.parametrize("name", ["E", "block_1.ffn.b_1", "ln_final.gamma"])
def test_one_entry_that_is_off_by_a_millionth_of_its_step_is_found(name):
    got, before = left(7, "float64"), somewhere("float64")
    moved = got.weights[name].copy()
    place = np.unravel_index(int(np.argmax(np.abs(moved - before.weights[name]))), moved.shape)
    moved[place] += 1e-6 * (moved[place] - before.weights[name][place])
    found = compared(7, "float64", 0.1, dataclasses.replace(got, weights={**got.weights, name: moved}))
    finding = update.weights([found])
    assert "1 of 27 tensors, first " + name in finding.message
    assert "UPDATE-03" in finding.message
    assert update.moments([found]).passed


@pytest.mark.parametrize("name", within_bounds.LOGGED)
@pytest.mark.parametrize("said", [None, math.nan, 0.5])
def test_a_log_that_says_something_else_is_found(name, said):
    after = expected(7, "float32", 0.1)
    told = {**line(after), name: said}
    found = update.judge(plan(), 7, somewhere(), left(7), after, told, "")
    finding = update.log([found])
    assert not finding.passed
    assert f"update 7: {name}" in finding.message


def test_a_gradient_that_is_nearly_nothing_gets_a_wide_bound_and_no_other_does():
    """Where sqrt(v) is of the size of the rounding errors, the step is anything; the bound must say so by itself."""
    before, number = somewhere(), 1
    nothing = {name: np.zeros_like(x) for name, x in before.m.items()}
    start = dataclasses.replace(before, m=nothing, v=nothing)
    bounded = replay.replay(plan(eps=1e-12), number, start)
    rate = SETTINGS.rate(number)
    gradient = np.abs(np.concatenate([b.value.ravel() for b in bounded.m.values()])) / 0.1
    bound = np.concatenate([b.bound.ravel() for b in bounded.weights.values()])
    wide = bound > 0.1 * rate
    assert wide.any()
    assert gradient[wide].max() < 0.02 * gradient.max()
    assert wide.mean() < 0.1


# Whole logs


def run_of(path: Path, log: list[dict[str, object]]) -> RunDirectory:
    run = RunDirectory(path)
    run.__dict__["log"] = log
    return run


def right_log(followed: TrainingPlan) -> list[dict[str, object]]:
    batches = followed.batches[: followed.settings.steps]
    return [
        {"step": n, "epoch": epoch, "tokens": int(batch[2].sum()), "lr": followed.settings.rate(n)}
        for n, (epoch, batch) in enumerate(batches, 1)
    ]


def test_a_right_log_follows_schedule_and_data(tmp_path):
    followed = plan()
    run = run_of(tmp_path, right_log(followed))
    assert log_checks.schedule([(run, followed.settings)]).passed
    assert log_checks.data([(run, followed)]).passed


@pytest.mark.parametrize("field", ["step", "epoch", "tokens", "lr"])
def test_one_wrong_number_in_a_log_is_found(tmp_path, field):
    followed = plan()
    log = right_log(followed)
    log[6][field] = float(str(log[6][field])) * 1.01 + 1e-9
    run = run_of(tmp_path, log)
    finding = log_checks.schedule([(run, SETTINGS)]) if field == "lr" else log_checks.data([(run, followed)])
    assert not finding.passed
    assert "update 7" in finding.message


def test_a_finished_run_with_too_short_a_log_is_found(tmp_path):
    followed = plan()
    run = run_of(tmp_path, right_log(followed)[:-1])
    assert log_checks.data([(run, followed)]).passed
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    assert "lines of the log" in log_checks.data([(run, followed)]).message


# The first weights


def begun(seed: int) -> State:
    chance = np.random.default_rng(seed)
    weights = {
        name: chance.normal(0.0, 0.02, shape)
        if model.initial_law(name) == "normal"
        else np.full(shape, float(model.initial_law(name) == "ones"))
        for name, shape in model.parameter_shapes(scoring.CONFIG).items()
    }
    zeros = {name: np.zeros_like(x) for name, x in weights.items()}
    return State(weights, zeros, zeros, np.dtype("float32"))


def changed(state: State, name: str, value: np.ndarray) -> State:
    return dataclasses.replace(state, weights={**state.weights, name: value})


@pytest.mark.parametrize("seed", range(5))
def test_a_right_start_follows_the_law(seed):
    assert first_weights.start(begun(seed), begun(seed + 100)).passed


@pytest.mark.parametrize(
    ("name", "law", "says"),
    [
        ("block_0.ffn.W_1", lambda x: 1.2 * x, "deviation of block_0.ffn.W_1"),
        ("E", lambda x: x + 0.003, "mean of E"),
        ("E", lambda x: 0.02 * np.sign(x), "distribution of E"),
        ("block_0.attn.W_q", lambda x: np.where(np.abs(x) > 0.03, 0.021 * np.sign(x), x), "block_0.attn.W_q"),
        ("ln_final.gamma", np.zeros_like, "ln_final.gamma"),
        ("block_1.ffn.b_1", lambda x: x + 1e-9, "block_1.ffn.b_1"),
    ],
)
def test_a_start_of_another_law_is_found(name, law, says):
    state = begun(1)
    finding = first_weights.start(changed(state, name, law(state.weights[name])), begun(2))
    assert not finding.passed
    assert says in finding.message


def test_matrices_that_share_their_draws_are_found():
    state = begun(1)
    finding = first_weights.start(changed(state, "block_1.attn.W_v", state.weights["E"]), begun(2))
    assert "block_1.attn.W_v is related to E" in finding.message
    assert "another seed" in first_weights.start(state, state).message


# Cadence, divergence, settings


def test_a_settings_file_without_a_setting_is_no_evidence():
    with pytest.raises(GateError, match="batch_size"):
        Settings.read('seed = "1"\ndtype = "float32"\nsteps = 3\n')


def test_numbers_that_are_not_finite_are_found_in_lines(tmp_path):
    run = run_of(tmp_path, [{"step": 1, "loss": math.inf}])
    (tmp_path / "train_log.jsonl").write_text("{}\n", encoding="utf-8")
    finding = log_checks.finite(Finished("x", 0, "", "", 1.0), run)
    assert "line 1: loss is not finite" in finding.message


# Checkpoints that were tampered with


def resumed(path: Path, lines: list[bytes], status: int = 0) -> Resumed:
    run = RunDirectory(path)
    run.__dict__["log_lines"] = lines
    return Resumed(Finished("x", status, "", "", 1.0), run)


def test_a_changed_checkpoint_must_change_what_follows(tmp_path):
    whole = resumed(tmp_path, [b"1", b"2", b"3", b"4"]).run
    assert resume.changed_is_used(whole, resumed(tmp_path, [b"1", b"2", b"x"]), 2).passed
    assert resume.changed_is_used(whole, resumed(tmp_path, [], status=2), 2).passed
    assert (
        "as if it had not changed"
        in resume.changed_is_used(whole, resumed(tmp_path, [b"1", b"2", b"3"]), 2).message
    )
    assert "made no step" in resume.changed_is_used(whole, resumed(tmp_path, [b"1", b"2"]), 2).message


def test_a_corrupted_checkpoint_must_change_nothing_or_be_refused(tmp_path):
    whole = resumed(tmp_path, [b"1", b"2", b"3", b"4"]).run
    assert resume.corrupted_is_not_used(whole, resumed(tmp_path, [b"1", b"2", b"3"]), 2).passed
    assert resume.corrupted_is_not_used(whole, resumed(tmp_path, [], status=2), 2).passed
