"""The oracle of the loop: against 50 digits, a complex step and an independent statement; and what it says in words."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from fixtures.loop_strategies import micro_batch, parameters
from reference.arithmetic import DOUBLE
from reference.gradients import complex_step_gradient
from reference.loss import masked_mean, token_nll
from reference.schedule import learning_rate
from reference.training import Trainer
from reference.training_bounds import TracedTrainer, bounded
from tests.fifty_digits import CONTEXT as mp
from tests.fifty_digits import error, in_fifty_digits

VOCAB, WIDTH = 5, 3
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "dropout": 0.0,
    "peak": 0.05,
    "floor": 0.005,
    "warmup": 1,
    "total": 6,
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.1,
    "max_norm": 0.4,
}
SCHEDULE = {name: SETTINGS[name] for name in ("peak", "floor", "warmup", "total")}
KINDS = ("holes", "full", "one", "empty", "holes", "full", "holes")
VARIANTS: list[dict[str, str]] = [
    {},
    {"decay": "with", "clip": "optax", "schedule": "optax"},
    {"decay": "after", "eps_place": "before correction", "clip": "cs336", "schedule": "cs336"},
    {"clip": "torch", "norm": "dtype", "schedule": "torchtitan"},
]


def case(seed, scale=1.0):
    """(parameters, seven micro-batches)"""
    rng = np.random.default_rng(seed)
    shapes = rng.integers(1, 4, (len(KINDS), 2))
    batches = [
        micro_batch(rng, VOCAB, int(b), int(t), kind) for (b, t), kind in zip(shapes, KINDS, strict=True)
    ]
    return parameters(rng, VOCAB, WIDTH, scale), batches


def run(trainer, batches, accumulate=2, passes=1):
    """(records, parameters) of the trainer."""
    records = [record for _ in range(passes) for record in trainer.train(batches, accumulate)]
    return records, trainer.parameters()


# ---- numbers


@pytest.mark.parametrize("conventions", VARIANTS, ids=str)
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_the_loop_is_this_close_to_fifty_digits(conventions, eps):
    """Eight updates: parameters within 10 units of the largest, and within the loop's own bound."""
    params, batches = case(1)
    settings = SETTINGS | {"eps": eps, "total": 20}
    records, found = run(Trainer(params, settings, **conventions), batches, passes=2)
    exact_records, exact = run(
        Trainer(*in_fifty_digits((params, settings)), **conventions), batches, passes=2
    )
    watched_records, watched = run(
        TracedTrainer(params, settings, dtype=np.float64, **conventions), batches, passes=2
    )
    for name, x in found.items():
        off = error(x, exact[name])
        assert off.max() <= 10 * DOUBLE * np.abs(x).max(), f"{name}: {off.max() / DOUBLE:.1f} units"
        assert np.all(off <= bounded(watched)[name].bound)
    for got, wanted, bound in zip(records, exact_records, watched_records, strict=True):
        for name in ("loss", "grad_norm", "lr"):
            if not isinstance(wanted[name], float):
                allowed = bounded(np.asarray(0.0) + bound[name]).bound
                assert error(got[name], wanted[name]) <= allowed, name


def test_the_gradient_of_a_window_is_that_of_its_loss():
    """A complex step through the whole window at once: micro-batches, masks and tokens as one sum."""
    params, batches = case(2)
    trainer = Trainer(params, SETTINGS)
    loss, gradients = trainer.token_mean(trainer.gather(batches))

    def window_loss(name, x):
        p = params | {name: x}
        nll = [
            token_nll(p["E"][tokens] @ p["W"] + p["b"], targets).reshape(-1) for tokens, targets, _ in batches
        ]
        masks = [mask.reshape(-1) for _, _, mask in batches]
        return masked_mean(np.concatenate(nll)[None], np.concatenate(masks)[None])

    assert abs(loss - window_loss("b", params["b"])) <= 20 * DOUBLE * abs(loss)
    for name, gradient in gradients.items():
        exact = complex_step_gradient(partial(window_loss, name), params[name])
        assert np.abs(gradient - exact).max() <= 40 * DOUBLE


def test_the_loop_is_its_formula_written_with_loops():
    """An independent statement: scalars of 50 digits, one token at a time, the clipping and AdamW spelt out."""
    params, batches = case(3)
    _, found = run(Trainer(params, SETTINGS), batches, accumulate=3)
    exact = naive_run(params, batches, 3)
    for name, x in found.items():
        for index in np.ndindex(x.shape):
            assert abs(mp.mpf(float(x[index])) - exact[name, *index]) <= 10 * DOUBLE, (name, index)


def naive_run(params, batches, accumulate):
    """Parameters by (name, index)."""
    s = {key: mp.mpf(value) for key, value in SETTINGS.items()}
    p = {(name, *i): mp.mpf(float(x[i])) for name, x in params.items() for i in np.ndindex(x.shape)}
    m, v = dict.fromkeys(p, mp.mpf(0)), dict.fromkeys(p, mp.mpf(0))
    for k, start in enumerate(range(0, len(batches), accumulate)):
        g, tokens = dict.fromkeys(p, mp.mpf(0)), 0
        for batch in batches[start : start + accumulate]:
            for token, target, predicted in zip(*(x.reshape(-1).tolist() for x in batch), strict=True):
                if predicted:
                    tokens += 1
                    add_gradient(p, g, token, target)
        g = {key: x / max(tokens, 1) for key, x in g.items()}
        norm = mp.sqrt(sum(x * x for x in g.values()))
        factor = min(mp.mpf(1), s["max_norm"] / norm) if norm else mp.mpf(1)
        cosine = mp.cos(mp.pi * (k - 1 + 1) / (s["total"] - 1))
        lr = s["peak"] if k == 0 else s["floor"] + (s["peak"] - s["floor"]) * (1 + cosine) / 2
        for key in p:
            m[key] = s["beta1"] * m[key] + (1 - s["beta1"]) * factor * g[key]
            v[key] = s["beta2"] * v[key] + (1 - s["beta2"]) * (factor * g[key]) ** 2
            first, second = m[key] / (1 - s["beta1"] ** (k + 1)), v[key] / (1 - s["beta2"] ** (k + 1))
            wd = mp.mpf(0) if key[0] == "b" else s["weight_decay"]
            p[key] = p[key] * (1 - lr * wd) - lr * first / (mp.sqrt(second) + s["eps"])
    return p


def add_gradient(p, g, token, target):
    """Gradient of the loss of one token."""
    logits = [sum(p["E", token, d] * p["W", d, w] for d in range(WIDTH)) + p["b", w] for w in range(VOCAB)]
    total = sum(mp.exp(x) for x in logits)
    for w in range(VOCAB):
        dlogit = mp.exp(logits[w]) / total - (w == target)
        g["b", w] += dlogit
        for d in range(WIDTH):
            g["E", token, d] += dlogit * p["W", d, w]
            g["W", d, w] += dlogit * p["E", token, d]


# ---- the bound says something


@pytest.mark.parametrize("eps", [1e-8, 1e-2, 0.3])
def test_the_bound_is_far_below_one_update(eps):
    """In single precision, after four updates: the median of the largest bounds is below 1/500 of the rate."""
    sizes = []
    for seed in range(20):
        params, batches = case(seed)
        _, watched = run(TracedTrainer(params, SETTINGS | {"eps": eps}, dtype=np.float32), batches)
        largest = max(float(b.bound.max()) for b in bounded(watched).values())
        assert np.isfinite(largest)
        sizes.append(largest / SETTINGS["peak"])
    assert np.median(sizes) < 1 / 500


@pytest.mark.parametrize("clip", ["exact", "torch", "optax", "cs336"])
def test_a_limit_that_is_far_away_costs_nothing(clip):
    """torch's factor min(1, limit / norm) is exactly 1 there, however large the error of the quotient is."""
    params, batches = case(3)
    _, near = run(TracedTrainer(params, SETTINGS | {"max_norm": 1e6}, dtype=np.float32, clip=clip), batches)
    _, exact = run(TracedTrainer(params, SETTINGS | {"max_norm": 1e6}, dtype=np.float32), batches)
    for name, found in bounded(near).items():
        assert found.bound.max() <= 2.0 * bounded(exact)[name].bound.max() < 1e-3


def test_where_the_norm_meets_the_limit_the_bound_says_nothing():
    params, batches = case(4)
    norm = float(Trainer(params, SETTINGS).train(batches, 7)[0]["grad_norm"])
    watched = TracedTrainer(params, SETTINGS | {"max_norm": norm}, dtype=np.float32)
    watched.train(batches, 7)
    assert np.all(np.isinf(bounded(watched.parameters())["W"].bound))


# ---- words


def test_windows_and_records():
    params, batches = case(5)
    records, _ = run(Trainer(params, SETTINGS), batches, accumulate=3, passes=2)
    tokens = [sum(int(mask.sum()) for _, _, mask in batches[i : i + 3]) for i in (0, 3, 6)]
    assert [record["tokens"] for record in records] == tokens * 2
    assert [record["lr"] for record in records] == [learning_rate(k, **SCHEDULE) for k in range(6)]


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_is_refused_and_nothing_has_changed(place):
    params, batches = case(6)
    params["E"][4] = np.nan
    good = [(np.minimum(tokens, 3), targets, mask) for tokens, targets, mask in batches[:2]]
    bad = (np.array([[4]]), np.array([[0]]), np.array([[True]]))
    trainer = Trainer(params, SETTINGS)
    trainer.train(good, 2)
    before = trainer.state()
    with pytest.raises(FloatingPointError, match="update 1: loss nan"):
        trainer.train([*good[:place], bad, *good[place:]], 3)
    after = trainer.state()
    assert all(after[name].tobytes() == x.tobytes() for name, x in before.items())


def test_what_is_masked_is_not_looked_at():
    params, batches = case(7)
    hidden = [(np.where(mask, np.minimum(tokens, 3), 4), targets, mask) for tokens, targets, mask in batches]
    plain = [(np.minimum(tokens, 3), targets, mask) for tokens, targets, mask in batches]
    expected, _ = run(Trainer(params, SETTINGS), plain)
    params["E"][4] = np.nan
    found, _ = run(Trainer(params, SETTINGS), hidden)
    assert [record["loss"] for record in found] == [record["loss"] for record in expected]


def test_masks_of_dropout_do_not_depend_on_how_a_window_is_cut_or_padded():
    params, _ = case(8)
    tokens, targets, mask = micro_batch(np.random.default_rng(0), VOCAB, 5, 3)
    wide = tuple(np.pad(x, ((0, 0), (0, 2))) for x in (tokens, targets, mask))
    cut = [(tokens[i], targets[i], mask[i]) for i in (slice(2), slice(2, 5))]
    settings = SETTINGS | {"dropout": 0.5}
    windows: list[Any] = [[(tokens, targets, mask)], [wide], cut]
    losses = [Trainer(params, settings).train(window, len(window))[0]["loss"] for window in windows]
    assert max(losses) - min(losses) <= 20 * DOUBLE
    assert abs(losses[0] - Trainer(params, SETTINGS).evaluate([(tokens, targets, mask)])) > 1e-6


def test_variants_of_the_windows():
    """Leftovers of an epoch make an update, wait in the checkpoint, or are lost; what predicts nothing is left out."""
    params, batches = case(5)

    def tokens(passes, **conventions):
        trainer = Trainer(params, SETTINGS | {"total": 30}, **conventions)
        return [[record["tokens"] for record in trainer.train(batches, 3)] for _ in range(passes)], trainer

    n = [int(mask.sum()) for _, _, mask in batches]
    first = [sum(n[:3]), sum(n[3:6])]
    assert tokens(1)[0] == [[*first, n[6]]]
    assert tokens(1, leftover="drop")[0] == [first]
    found, trainer = tokens(2, leftover="carry")
    assert found == [first, [n[6] + n[0] + n[1], sum(n[2:5])]]
    copy = Trainer(params, SETTINGS, leftover="carry")
    copy.restore(trainer.state())
    assert [len(mask) for _, _, mask in copy.waiting] == [len(mask) for _, _, mask in batches[5:]]
    empty = [(x, y, np.zeros_like(mask)) for x, y, mask in batches]
    trainer = Trainer(params, SETTINGS, empty_window="skip")
    assert trainer.train(empty, 2) == []
    assert trainer.state()["parameter.E"].tobytes() == params["E"].tobytes()


def test_a_large_vocabulary_needs_no_square_of_it():
    one = np.array([[7, 2**16 + 7]])
    params = parameters(np.random.default_rng(0), 2**16 + 64, 1)
    trainer = Trainer(params, SETTINGS)
    gradient = trainer.gather([(one, one, np.ones((1, 2), dtype=bool))]).gradients["E"]
    assert np.flatnonzero(gradient).tolist() == [7, 2**16 + 7]


def test_a_checkpoint_is_plain_arrays_and_gives_back_every_bit(tmp_path):
    params, batches = case(9)
    settings = SETTINGS | {"dropout": 0.25}
    original = Trainer(params, settings)
    original.train(batches, 2)
    original.save(str(tmp_path / "saved"))
    copy = Trainer(case(10)[0], settings)
    copy.load(str(tmp_path / "saved"))
    assert run(copy, batches)[0] == run(original, batches)[0]
    assert copy.evaluate(batches) == original.evaluate(batches)


def test_parameters_come_back_in_the_dtype_they_came_in():
    params, batches = case(11)
    single = {name: x.astype(np.float32) for name, x in params.items()}
    trainer = Trainer(single, SETTINGS)
    trainer.train(batches, 2)
    assert {x.dtype for x in trainer.parameters().values()} == {np.dtype(np.float32)}
    assert all(x.tobytes() == params[name].astype(np.float32).tobytes() for name, x in single.items())
