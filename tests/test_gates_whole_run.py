"""The gate of the whole run: what is drawn, how a copy is cut back, and what evidence passes and does not."""

import dataclasses
import json
import math
import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fixtures.corpus import files
from gates.judge import run_numbers, scoring, whole_run
from gates.subject import drawn_resumes, tensors
from gates.subject.drawn_resumes import Audit, cut_back, draw_updates, special_updates, spread
from gates.subject.pool import Once
from gates.subject.process import Subject
from gates.subject.run_directory import RunDirectory
from gates.subject.training_runs import Growth, Trained
from reference import model

STEPS, EVERY = 6, 3
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = files.read_directory()["val"][:4]


# What is drawn


def test_special_updates_are_the_warm_up_an_edge_after_the_second_epoch_and_the_last():
    for seed in range(50):
        found = special_updates(random.Random(seed), steps=600, warmup=50, epoch=12)
        edges = [u for u in found if u not in (50, 600)]
        assert {50, 600} <= set(found)
        assert not edges or (min(edges) >= 36 and any(u % 12 == 0 or u == 600 for u in found))
    assert special_updates(random.Random(0), steps=5, warmup=0, epoch=7) == [5]
    assert special_updates(random.Random(0), steps=7, warmup=9, epoch=7) == [7]


def test_the_replayed_updates_are_spread_and_have_the_last():
    drawn = [14, 50, 85, 125, 155, 221, 299, 300, 301, 349, 396, 407, 484, 506, 551, 600]
    found = spread(drawn, [50, 300, 301, 600])
    assert len(found) == drawn_resumes.REPLAYED
    assert {50, 300, 301, 600} <= set(found) <= set(drawn)
    assert min(found) < 100
    assert sorted(found) == list(found)
    assert spread([3, 9], [9]) == (3, 9)


def test_a_draw_has_an_update_of_every_stretch_and_at_least_eight(tmp_path):
    run = directory(tmp_path / "run")
    updates, special = draw_updates(random.Random(1), run, files.read_directory()["train"])
    assert all(any(u in range(a + 1, a + EVERY + 1) for u in updates) for a in range(0, STEPS, EVERY))
    assert set(special) <= set(updates)


@pytest.mark.parametrize(
    ("group", "stops"), [([5], [4, 5]), ([3], [3, 4]), ([8], [7]), ([4, 8], [3, 4, 7]), ([3, 4], [3, 4])]
)
def test_a_copy_stops_around_each_drawn_update_but_not_where_the_run_has_checkpoints(group, stops):
    assert list(drawn_resumes._stops(2, group, [2, 8])) == stops


# The copy


def directory(path: Path, steps: int = STEPS) -> RunDirectory:
    """A finished run of nothing but numbers, evaluated and saved at every third step."""
    path.mkdir(parents=True)
    lines = [line_of(step) for step in range(1, steps + 1)]
    (path / "train_log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    optimizer = "[optimizer]\nwarmup_steps = 1\n"
    (path / "config.toml").write_text(f"steps = {steps}\nbatch_size = 32\n{optimizer}", encoding="utf-8")
    (path / "results.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    for step in range(EVERY, steps + 1, EVERY):
        folder = path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(tensors.write(weights()))
        (folder / "optimizer.safetensors").write_bytes(tensors.write(moments()))
    return RunDirectory(path)


RESULTS = {"steps": STEPS, "wall_seconds": 1.5, "tokens_per_second": 500.0, "best_step": EVERY}


def weights() -> dict[str, np.ndarray]:
    return {
        name: np.zeros(shape, np.float32) for name, shape in model.parameter_shapes(scoring.CONFIG).items()
    }


def moments() -> dict[str, np.ndarray]:
    return {f"{kind}.{name}": x for kind in "mv" for name, x in weights().items()}


def line_of(step: int) -> dict[str, object]:
    """Weights of 0 make every token equally likely."""
    line: dict[str, object] = {"step": step, "loss": 2.0, "lr": 0.1, "tokens": 100}
    if step % EVERY == 0:
        line |= {"val_loss": math.log(64), "val_ppl": math.exp(math.log(64)), "hex": {"loss": (2.0).hex()}}
    return line


def test_a_copy_is_what_the_run_was_at_its_checkpoint(tmp_path):
    run, copy = directory(tmp_path / "run"), tmp_path / "copy"
    cut_back(run, 3, copy, ["config.toml", "train_log.jsonl", "checkpoints"])
    assert sorted(p.name for p in copy.iterdir()) == ["checkpoints", "config.toml", "train_log.jsonl"]
    assert list(RunDirectory(copy).checkpoints()) == [3]
    assert RunDirectory(copy).log_lines == run.log_lines[:3]
    assert (copy / "train_log.jsonl").read_bytes() == b"".join(x + b"\n" for x in run.log_lines[:3])


@dataclasses.dataclass
class Told(Subject):
    """Notes what it is told, and leaves a run that was just begun."""

    said: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def train(self, *arguments: str | Path, out: str = "run") -> RunDirectory:
        self.said.append((self.module, out, *map(str, arguments)))
        (self.home / out / "checkpoints").mkdir(parents=True, exist_ok=True)
        return RunDirectory(self.home / out)


def test_a_fresh_process_is_the_first_to_go_on_from_a_checkpoint_that_asks_for_one(tmp_path):
    run, said = directory(tmp_path / "run"), list[tuple[str, ...]]()
    fresh, warm = (Told(name, tmp_path / "copies", said=said) for name in ("fresh", "warm"))
    drawn_resumes.resume_drawn(fresh, run, [2, 5], (5,), warm=warm, fresh={3})
    assert said == [
        ("warm", "from-0", "--stop-after", "1"),
        ("warm", "from-0", "--resume", "--stop-after", "2"),
        ("fresh", "from-3", "--resume", "--stop-after", "4"),
        ("warm", "from-3", "--resume", "--stop-after", "5"),
    ]
    said.clear()
    drawn_resumes.resume_drawn(dataclasses.replace(fresh, home=tmp_path / "others"), run, [5], (5,))
    assert {name for name, *_ in said} == {"fresh"}
    said.clear()
    drawn_resumes.resume_drawn(
        dataclasses.replace(fresh, home=tmp_path / "all-warm"), run, [5], (5,), warm=warm
    )
    assert {name for name, *_ in said} == {"warm"}


def test_a_line_that_is_not_the_runs_own_is_found_and_named(tmp_path):
    run, copy = directory(tmp_path / "run"), directory(tmp_path / "copy", 3)
    audit = Audit(run, (), (), {2: copy})
    assert whole_run.lines(audit).passed
    log = (copy.path / "train_log.jsonl").read_bytes()
    (copy.path / "train_log.jsonl").write_bytes(
        log.replace(b'"step": 3, "loss": 2.0', b'"step": 3, "loss": 2.1')
    )
    found = whole_run.lines(dataclasses.replace(audit, resumed={2: RunDirectory(copy.path)}))
    assert "resumed from step 2, line 3: loss is not the run's own" in found.message
    assert "got 2.1, expected 2.0" in found.message
    (copy.path / "train_log.jsonl").write_bytes(log.replace(b'{"step": 3', b'{ "step": 3'))
    found = whole_run.lines(dataclasses.replace(audit, resumed={2: RunDirectory(copy.path)}))
    assert "its form is not the run's own" in found.message


def test_an_audit_that_replayed_nothing_does_not_pass(tmp_path):
    assert not whole_run.replayed([]).passed


# The numbers


@pytest.fixture(scope="module")
def scorer() -> scoring.ReferenceScorer:
    return scoring.ReferenceScorer(files.read_directory()["train"])


def test_right_evaluations_pass(tmp_path, scorer):
    found = run_numbers.evaluations(directory(tmp_path / "run"), scorer, ROWS)
    assert found.passed, found.message
    assert "2 evaluations recomputed" in found.figure


@pytest.mark.parametrize(
    ("step", "name", "value", "says"),
    [
        (3, "val_loss", 5.0, "step 3: val_loss is not that of its weights"),
        (3, "val_loss", math.nan, "step 3: val_loss is not that of its weights"),
        (6, "val_ppl", 2.0 ** math.log(64), "step 6: val_ppl is not exp(val_loss)"),
    ],
)
def test_a_wrong_evaluation_is_found(tmp_path, scorer, step, name, value, says):
    run = directory(tmp_path / "run")
    run.log[step - 1][name] = value
    assert says in run_numbers.evaluations(run, scorer, ROWS).message


def test_a_best_step_that_is_not_the_lowest_and_a_log_without_evaluations_are_found(tmp_path, scorer):
    run = directory(tmp_path / "run")
    (run.path / "results.json").write_text('{"best_step": 6}', encoding="utf-8")
    assert "best_step is not that of the lowest" in run_numbers.evaluations(run, scorer, ROWS).message
    for line in run.log:
        line.pop("val_loss", None)
    assert "evaluations at checkpoints" in run_numbers.evaluations(run, scorer, ROWS).message


def trained(path: Path, **claims: object) -> Trained:
    """A run whose lines appeared every quarter of a second, in a process of two seconds."""
    run = directory(path)
    (path / "results.json").write_text(json.dumps(RESULTS | claims), encoding="utf-8")
    ends = np.cumsum([len(line) + 1 for line in run.log_lines])
    seen = [(0.25 * n - 0.001, 0.25 * n, int(end)) for n, end in enumerate(ends)]
    growth = Growth(path / "train_log.jsonl", seen)
    return Trained(run, (), path, None, (None, None), BEGAN, BEGAN, 2.0, growth)  # type: ignore[arg-type]


def test_right_totals_pass(tmp_path):
    assert run_numbers.totals(trained(tmp_path / "a")).passed
    assert run_numbers.totals(trained(tmp_path / "b", tokens_per_second=None)).passed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wall_seconds", -5.0),
        ("wall_seconds", 1.0),  # its lines took 1.25 s to appear
        ("wall_seconds", 2.5),
        ("wall_seconds", math.nan),
        ("tokens_per_second", 1e12),
        ("tokens_per_second", 100.0),
        ("tokens_per_second", math.nan),
        ("steps", 7),
        ("total_tokens", 599),
    ],
)
def test_totals_that_cannot_be_are_found(tmp_path, name, value):
    assert f"results.json: {name}" in run_numbers.totals(trained(tmp_path / "run", **{name: value})).message


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"hex": {"loss": (2.5).hex()}}, "line 3: hex.loss is another number than loss"),
        ({"total_tokens": 301}, "line 3: total_tokens"),
        ({"seconds": -1.0}, "line 3: seconds run backwards"),
    ],
)
def test_numbers_of_a_line_that_contradict_each_other_are_found(tmp_path, more, says):
    judged = trained(tmp_path / "run")
    for line in judged.run.log:
        line.setdefault("seconds", float(str(line["step"])))
    assert run_numbers.totals(judged).passed
    judged.run.log[2].update(more)
    assert says in run_numbers.totals(judged).message


def test_growth_never_says_more_time_than_passed(tmp_path):
    growth = Growth(tmp_path / "log", [(0.0, 0.1, 10), (0.4, 0.5, 20), (0.8, 0.9, 30)])
    assert growth.least_seconds(10, 30) == pytest.approx(0.7)
    assert growth.least_seconds(15, 30) == pytest.approx(0.3)
    assert growth.least_seconds(10, 31) == 0.0
    growth = Growth(tmp_path / "log")
    assert growth.look() is False
    (tmp_path / "log").write_text("a", encoding="utf-8")
    growth.look()
    growth.look()
    assert [size for _, _, size in growth.seen] == [0, 1]


def test_a_subject_without_micro_batches_is_not_said_to_have_passed_them():
    assert whole_run.micro_batches(None).unproved


def test_work_that_two_jobs_need_is_done_once_and_fails_twice():
    calls = []

    def work() -> int:
        calls.append(1)
        raise ValueError("no")

    once = Once(work)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            once()
    assert len(calls) == 1
