"""What a loop with its own generator declares: right rows and masks pass, and each way to be wrong is found."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from fixtures.corpus import files
from gates.errors import GateError
from gates.judge import declared_masks, declared_rows, known_mistakes, replay, scoring
from gates.judge.declared_masks import Asked
from gates.judge.run_record import NAMES, Settings, State, TrainingPlan
from gates.subject.declarations import Declared, Masks
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from gates.subject.stepwise_runs import OPTIMIZER
from gates.verdict.finding import Finding
from honestloop.conventions import Conventions

N, SIZE, EPOCHS = 84, 12, 3
OWN = Conventions(generator="own", schedule="llm.c", clip="torch", norm="dtype")
SETTINGS = Settings(7, "float32", 40, SIZE, 0.1, 5, 1, dict(OPTIMIZER), "llm.c")
SEQUENCES = [[1, 5 + i % 50, 6, 7 + i % 3, 2] for i in range(N)]
Orders = list[list[int]]


def orders(seed: int, epochs: int = EPOCHS) -> Orders:
    return [np.random.default_rng([seed, epoch]).permutation(N).tolist() for epoch in range(epochs)]


def plan_of(tmp_path: Path, name: str, batches: list[object]) -> TrainingPlan:
    """The plan of a run whose log tells of these rows."""
    run = RunDirectory(tmp_path / name)
    run.path.mkdir()
    lines = (json.dumps({"step": step, "rows": rows}) for step, rows in enumerate(batches, 1))
    (run.path / "train_log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return TrainingPlan(SETTINGS, SEQUENCES, (), Declared(OWN), run)


def cut(found: Orders) -> list[object]:
    return [order[i : i + SIZE] for order in found for i in range(0, len(order), SIZE)]


def judged(tmp_path: Path, long: list[object], short: list[object], other: list[object]) -> Finding:
    plans = {"long": long, "short": short, "other": other}
    runs = {name: plan_of(tmp_path, name, batches) for name, batches in plans.items()}
    return declared_rows.rows(
        {name: (plan.run, plan) for name, plan in runs.items() if plan.run},
        ("long", "short"),
        ("long", "other"),
    )


def test_shuffles_pass(tmp_path):
    found = judged(tmp_path, cut(orders(1)), cut(orders(1))[:9], cut(orders(2))[:2])
    assert found.passed, found.message
    assert found.figure == "32 updates of 3 runs: 0 wrong"


def repeat_first(found: Orders) -> list[object]:
    return cut([found[0]] * EPOCHS)


def turned(found: Orders) -> list[object]:
    return cut([found[0][i:] + found[0][:i] for i in range(EPOCHS)])


def backwards(found: Orders) -> list[object]:
    return cut([found[0], found[0][::-1], found[2]])


def batches_shuffled(found: Orders) -> list[object]:
    first = cut(found[:1])
    return [*first, *first[3:], *first[:3]]


def not_shuffled(found: Orders) -> list[object]:
    return cut([list(range(N)), *found[1:]])


def twice(found: Orders) -> list[object]:
    return cut([[*found[0][:-1], found[0][0]], *found[1:]])


def last_left_out(found: Orders) -> list[object]:
    return cut([order[: N - 12] for order in found])


def short_batch(found: Orders) -> list[object]:
    return [found[0][:11], *cut(found)[1:]]


def no_row(found: Orders) -> list[object]:
    return [*cut(found)[:4], [N], *cut(found)[5:]]


def missing(found: Orders) -> list[object]:
    return [*cut(found)[:4], None, *cut(found)[5:]]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (repeat_first, "epoch 1 is ordered like epoch 0"),
        (turned, "pairs of neighbours"),
        (backwards, "epoch 1 is ordered like epoch 0"),
        (batches_shuffled, "pairs of neighbours"),
        (not_shuffled, "epoch 0 is ordered like the order of the file"),
        (twice, "is in its epoch twice"),
        (last_left_out, "is in its epoch twice"),
        (short_batch, "how many"),
        (no_row, "update 5: rows"),
        (missing, "update 5: rows"),
    ],
)
def test_rows_that_are_no_shuffles_are_refused(tmp_path, wrong: Callable[[Orders], list[object]], says: str):
    rows = wrong(orders(1))
    found = judged(tmp_path, rows, rows[:4], cut(orders(2))[:2])
    assert not found.passed
    assert says in found.message


def test_rows_must_be_a_function_of_the_seed(tmp_path):
    found = judged(tmp_path, cut(orders(1)), cut(orders(3)), cut(orders(2)))
    assert "rows of update 1 of short" in found.message


def test_rows_of_another_seed_must_be_others(tmp_path):
    found = judged(tmp_path, cut(orders(1)), cut(orders(1)), cut(orders(1))[:3])
    assert "which have different seeds" in found.message


def test_the_chance_of_so_many_coincidences_is_below_what_is_allowed():
    most = declared_rows.most_alike(1000)
    assert 2 * 1000 * 2.0**most / math.factorial(most) <= declared_rows.FALSE_REFUSAL
    rng, alike = np.random.default_rng(0), 0
    for _ in range(300):
        a, b = (rng.permutation(N).tolist() for _ in range(2))
        alike = max(alike, sum(x == y for x, y in zip(a, b, strict=True)))
    assert 3 <= alike < most < N // 3


# Masks

SHAPE = (SIZE, 4, 64)


def draw(
    seed: int, update: int, p: float = 0.1, shape: tuple[int, int, int] = SHAPE
) -> dict[int, np.ndarray]:
    rng = np.random.default_rng([seed, update])
    return {site: rng.random(shape) >= p for site in range(5)}


class Told(Declared):
    """Masks by a function instead of a process."""

    def __init__(self, told: Callable[[int], Masks]) -> None:
        super().__init__(OWN, frozenset({"masks"}))
        object.__setattr__(self, "told", told)

    def masks(self, run: RunDirectory, update: int) -> Masks:
        return self.told(update)  # type: ignore[attr-defined]


def asked(tmp_path: Path, name: str, told: Callable[[int], Masks]) -> Asked:
    plan = plan_of(tmp_path, name, cut(orders(1)))
    plan = dataclasses.replace(plan, declared=Told(told))
    return Asked(name, plan, tuple(range(1, 9)), told)


def masks_judged(tmp_path: Path, told: Callable[[int], Masks], seeds: tuple[int, int] = (1, 2)) -> Finding:
    one = asked(tmp_path, "one", told)
    other = asked(tmp_path, "other", lambda update: draw(seeds[1], update))
    return declared_masks.masks([one], (one, other))


def test_independent_masks_pass(tmp_path):
    found = masks_judged(tmp_path, lambda update: draw(1, update))
    assert found.passed, found.message
    assert found.figure == f"{5 * 8 * math.prod(SHAPE):,} entries of 8 updates: 0 wrong"


def along(axis: int) -> Callable[[int], Masks]:
    """One draw for all entries along an axis."""

    def told(update: int) -> Masks:
        return {s: np.broadcast_to(np.take(x, [0], axis), SHAPE) for s, x in draw(1, update).items()}

    return told


def one_site(update: int) -> Masks:
    return dict.fromkeys(range(5), draw(1, update)[0])


def halves(update: int) -> Masks:
    """The same masks for both micro-batches."""
    return {site: np.concatenate([x[:6], x[:6]]) for site, x in draw(1, update).items()}


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (lambda update: draw(1, 1), "updates 1 and 2 are drawn together"),
        (lambda update: draw(1, update % 5), "updates 1 and 6 are drawn together"),
        (one_site, "sites 0 and 1 are drawn together"),
        (halves, "rows 0 and 6 are drawn together"),
        (along(0), "rows 0 and 1 are drawn together"),
        (along(1), "positions 0 and 1 are drawn together"),
        (along(2), "are drawn together"),
        (lambda update: draw(1, update, p=0.115), "one: kept by dropout"),
        (lambda update: draw(1, update, p=0.2), "kept by dropout"),
        (lambda update: draw(1, update, p=0.0), "update 1, site 0: kept by dropout"),
    ],
)
def test_masks_that_are_no_independent_draws_are_refused(tmp_path, told: Callable[[int], Masks], says: str):
    found = masks_judged(tmp_path, told)
    assert not found.passed
    assert says in found.message


def test_masks_must_be_those_of_the_seed(tmp_path):
    assert "which have different seeds" in masks_judged(tmp_path, lambda k: draw(1, k), (1, 1)).message


def test_masks_must_be_the_same_when_told_again(tmp_path):
    one = dataclasses.replace(
        asked(tmp_path, "one", lambda update: draw(1, update)), again=lambda update: draw(3, update)
    )
    other = asked(tmp_path, "other", lambda update: draw(2, update))
    assert "a function of seed and update" in declared_masks.masks([one], (one, other)).message


def test_masks_of_another_shape_than_the_batch_are_refused(tmp_path):
    plan = asked(tmp_path, "one", lambda update: draw(1, update, shape=(SIZE, 5, 64))).plan
    with pytest.raises(GateError, match="masks of update 3: site 0 is bool"):
        plan.masks(3)


def test_without_a_verb_for_masks_nothing_is_replayed(tmp_path):
    plan = plan_of(tmp_path, "one", cut(orders(1)))
    with pytest.raises(GateError, match="there is no verb `masks`"):
        replay.dropout_of(plan, 1)
    still = dataclasses.replace(plan, settings=dataclasses.replace(SETTINGS, dropout=0.0))
    x = np.ones(SHAPE)
    assert replay.dropout_of(still, 1)(x, 0) is x


def test_rows_are_asked_for_where_the_log_does_not_tell_them(tmp_path):
    plan = plan_of(tmp_path, "one", [None, None])

    def ask(verb: str, *, run: Path, out: Path, updates: str) -> Finished:
        assert (verb, updates) == ("rows", "1,2")
        out.write_text(json.dumps({"1": [3], "2": [4]}))
        return Finished("rows", 0, "", "", 0.0)

    told = Declared(OWN, frozenset({"rows"}), ask, tmp_path / "answers")
    assert dataclasses.replace(plan, declared=told).rows == [(0, [3]), (0, [4])]
    with pytest.raises(GateError, match="rows of update 1"):
        _ = dataclasses.replace(plan).rows


# Replays with conventions


def replayed(tmp_path: Path, conventions: Conventions, **changes: float) -> tuple[replay.After, replay.After]:
    """What an update must leave (with bounds), and what it leaves under other conventions, in plain fp64."""
    scorer = scoring.ReferenceScorer(files.read_directory()["train"])
    settings = dataclasses.replace(SETTINGS, optimizer={**OPTIMIZER, **changes}, schedule="honestloop")
    rng = np.random.default_rng(3)
    shapes = {name: tensor.shape for name, tensor in scoring.uniform_weights().items()}
    weights, m = ({name: 0.1 * rng.standard_normal(shapes[name]) for name in NAMES} for _ in range(2))
    before = State(weights, m, {name: x * x for name, x in m.items()}, np.float32)
    plan = TrainingPlan(settings, scorer.train[:N], (), Declared(Conventions()))
    settings = dataclasses.replace(settings, schedule=conventions.schedule)
    other = dataclasses.replace(plan, settings=settings, declared=Declared(conventions))
    return replay.replay(plan, 4, before), replay.replay_plainly(other, 4, before, replay.Law())


CONVENTIONS: Mapping[str, tuple[Conventions, dict[str, float]]] = {
    "schedule": (Conventions(schedule="huggingface"), {}),
    "decay": (Conventions(decay="after"), {"peak_lr": 0.3, "min_lr": 0.3}),
    "eps": (Conventions(eps="before correction"), {"eps": 0.1}),
}


@pytest.mark.parametrize("key", CONVENTIONS)
def test_another_convention_is_another_update(tmp_path, key):
    conventions, changes = CONVENTIONS[key]
    expected, other = replayed(tmp_path, conventions, **changes)
    _, same = replayed(tmp_path, Conventions(), **changes)
    beyond = [np.abs(other.weights[n] - b.value) > b.bound for n, b in expected.weights.items()]
    inside = [np.abs(same.weights[n] - b.value) <= b.bound for n, b in expected.weights.items()]
    assert any(x.any() for x in beyond)
    assert all(x.all() for x in inside)


def test_gradients_are_clipped_as_declared():
    g, limit = np.array([3e-6, 4e-6]), 5e-6
    exact, torch = (
        replay.Law().clip([g], np.asarray(limit), limit, Conventions(clip=clip))[0]
        for clip in ("exact", "torch")
    )
    np.testing.assert_array_equal(exact, g)
    np.testing.assert_allclose(torch, g * 5 / 6, rtol=1e-12)


def test_a_norm_added_up_in_single_precision_has_a_wider_bound(tmp_path):
    """Wide enough for a sum of 103,680 squares in float32, and narrower than a part in a thousand."""
    squares = np.random.default_rng(0).standard_normal(103_680).astype(np.float32) ** 2
    exact, single = math.sqrt(squares.sum(dtype=np.float64)), np.float32(0)
    for x in squares.cumsum(dtype=np.float32)[-1:]:
        single = x
    allowed = replay._added_up_in(2.0**-24, {"g": squares})
    assert abs(math.sqrt(single) / exact - 1.0) < allowed < 1e-3


def test_mistakes_that_a_declared_mask_cannot_show_are_not_tried(tmp_path):
    plan = plan_of(tmp_path, "one", cut(orders(1)))
    names = {type(m).__name__ for m in known_mistakes.MISTAKES if not m.applies(plan, 21)}
    assert {"FirstMasks", "LaterMasks", "NextBatch"} <= names
    assert "NoDropout" not in names
