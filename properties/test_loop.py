"""The training loop: windows, what is logged, the update, invariances, windows that are not finite, shared memory.

The subject trains a model of one matrix product, logits = dropout(E[input]) @ W + b (reference/training.py). Without
dropout its numbers are compared with the oracle's loop, under the bound of all updates so far
(reference/training_bounds.py).
"""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from fixtures.loop_strategies import (
    ALWAYS,
    DROPOUT,
    NEVER,
    NO_DROPOUT,
    long_case,
    loop_cases,
    micro_batch,
    predicted,
    windows,
)
from fixtures.strategies import generators, seeds
from honestloop.guard import Misbehaviour
from properties.assertions import holds, same_bytes, within
from properties.checks import checks
from properties.dtypes import either, to
from properties.loop_helpers import FIELDS, arrays, legal, logged, oracle_trainer, same_arrays, same_run
from reference import bounds
from reference.training_bounds import bounded

not_finite = st.sampled_from(["nan", "inf", "-inf"])


def trainer_and_oracle(subject, params, settings, dtype):
    """The subject's trainer and the oracle's, of the same parameters and settings."""
    return subject.trainer(to(dtype, params), settings), oracle_trainer(subject, params, settings, dtype)


def expected(records, *names):
    """These fields of every record of the oracle, with their bounds."""
    return [{name: bounded(np.asarray(0.0) + record[name]) for name in names} for record in records]


def apart(value, a, b):
    """`value` with the sum of the bounds of two runs: how far two correct runs may be from each other."""
    return bounds.Bounded(np.asarray(value, dtype=np.float64), a.bound + b.bound)


# ---- windows and what is logged


@checks("LOOP-01", case=loop_cases(passes=(1, 3), longest=7, rates="any", dropout=NO_DROPOUT | DROPOUT))
def test_every_window_is_one_update(subject, dtype, case):
    trainer = subject.trainer(to(dtype, case.params), legal(subject, case))
    for number, epoch in enumerate(case.epochs):
        records = trainer.train(epoch, case.accumulate)
        tokens = [predicted(window) for window in windows(epoch, case.accumulate)]
        found = f"epoch {number}, {len(epoch)} micro-batches, accumulate {case.accumulate}"
        holds(
            "LOOP-01", len(records) == len(tokens), f"{found}: {len(records)} records, expected {len(tokens)}"
        )
        missing = [name for name in FIELDS if any(name not in record for record in records)]
        holds("LOOP-01", not missing, f"a record without {', '.join(missing)}")
        got = [int(record["tokens"]) for record in records]
        holds("LOOP-01", got == tokens, f"{found}: predicted tokens {got}, expected {tokens}")
        for name, x in arrays(trainer).items():
            wanted = case.params[name].shape
            holds("SUBJ-01", x.dtype == dtype, f"parameters of {np.dtype(dtype)} come back as {x.dtype}")
            holds("SUBJ-01", x.shape == wanted, f"{name} has shape {x.shape}, expected {wanted}")


@checks("LOOP-02", case=loop_cases(passes=(1, 2), rates="frozen"))
def test_the_logged_loss_is_the_token_mean_of_the_window(subject, dtype, case):
    """All rates are 0, so that no parameter moves and a wrong update does not show here."""
    settings = legal(subject, case)
    trainer, oracle = trainer_and_oracle(subject, case.params, settings, dtype)
    for epoch in case.epochs:
        losses = [oracle.token_mean(oracle.gather(w))[0] for w in windows(epoch, case.accumulate)]
        wanted = expected([{"loss": loss} for loss in losses], "loss")
        within("LOOP-02", logged(trainer.train(epoch, case.accumulate), "loss"), wanted, dtype)


@checks("LOOP-03", case=loop_cases(passes=(1, 2), rates="frozen", max_norms=NEVER | ALWAYS))
def test_the_logged_norm_is_that_of_the_whole_window_before_clipping(subject, dtype, case):
    settings = legal(subject, case)
    trainer, oracle = trainer_and_oracle(subject, case.params, settings, dtype)
    for epoch in case.epochs:
        means = [oracle.token_mean(oracle.gather(w))[1] for w in windows(epoch, case.accumulate)]
        wanted = expected([{"grad_norm": oracle.clip(mean)[1]} for mean in means], "grad_norm")
        within("LOOP-03", logged(trainer.train(epoch, case.accumulate), "grad_norm"), wanted, dtype)


@checks("LOOP-04", case=loop_cases(passes=(1, 3), longest=6, rates="any"))
def test_the_rate_ticks_once_an_update(subject, case):
    dtype = either(subject, case.settings["seed"])
    settings = legal(subject, case)
    trainer, oracle = trainer_and_oracle(subject, case.params, settings, dtype)
    rates = [record["lr"] for epoch in case.epochs for record in trainer.train(epoch, case.accumulate)]
    wanted = [{"lr": bounded(oracle.rate(k))} for k in range(case.updates)]
    within("LOOP-04", [{"lr": float(rate)} for rate in rates], wanted, np.float64)


# ---- the update


@checks("LOOP-05", case=loop_cases(passes=(1, 1), longest=3, max_norms=NEVER), whole=st.booleans())
def test_the_first_update_is_the_formula(subject, dtype, case, whole):
    epoch = case.epochs[0] if whole else case.epochs[0][:1]
    settings = legal(subject, case, 1)
    trainer, oracle = trainer_and_oracle(subject, case.params, settings, dtype)
    records, wanted = trainer.train(epoch, len(epoch)), oracle.train(epoch, len(epoch))
    within("LOOP-05", logged(records, "loss"), expected(wanted, "loss"), dtype)
    within("LOOP-05", arrays(trainer), bounded(oracle.parameters()), dtype)


@checks("LOOP-06", case=loop_cases(passes=(1, 1), max_norms=ALWAYS))
def test_the_gradient_of_the_window_is_clipped(subject, dtype, case):
    """Two updates of AdamW show the size of a gradient even where eps does not: one is clipped more than the other."""
    settings = legal(subject, case)
    trainer, oracle = trainer_and_oracle(subject, case.params, settings, dtype)
    wanted = oracle.train(case.epochs[0], case.accumulate)
    assume(any(float(record["grad_norm"]) > settings["max_norm"] for record in wanted))
    trainer.train(case.epochs[0], case.accumulate)
    within("LOOP-06", arrays(trainer), bounded(oracle.parameters()), dtype)


@checks("LOOP-07", case=loop_cases(passes=(2, 3), longest=3))
def test_several_updates_are_the_formula(subject, dtype, case):
    """Parameters after every epoch, and what was logged on the way."""
    settings = legal(subject, case)
    trainer, oracle = trainer_and_oracle(subject, case.params, settings, dtype)
    for epoch in case.epochs:
        records, wanted = trainer.train(epoch, case.accumulate), oracle.train(epoch, case.accumulate)
        names = "loss", "grad_norm"
        within("LOOP-07", logged(records, *names), expected(wanted, *names), dtype)
        within("LOOP-07", arrays(trainer), bounded(oracle.parameters()), dtype)


@checks("LOOP-07")
def test_hundreds_of_updates_are_the_formula(subject):
    """One fixed run that every gradient of is clipped: mistakes that begin at some update, counters that wrap at 256.

    The bound of a loop in single precision is of no use after a hundred updates.
    """
    wide = np.float64 in subject.conventions.float_types
    case = long_case(passes=27 if wide else 5)
    dtype = np.float64 if wide else np.float32
    trainer, oracle = trainer_and_oracle(subject, case.params, legal(subject, case), dtype)
    for number, epoch in enumerate(case.epochs, 1):
        records, wanted = trainer.train(epoch, case.accumulate), oracle.train(epoch, case.accumulate)
        names = "loss", "grad_norm"
        within("LOOP-07", logged(records, *names), expected(wanted, *names), dtype)
        if number % 5 == 0:
            within("LOOP-07", arrays(trainer), bounded(oracle.parameters()), dtype)


@checks("LOOP-08", case=loop_cases(passes=(1, 2), dropout=NO_DROPOUT | DROPOUT), kept=st.booleans())
def test_with_nothing_to_predict_only_the_decay_acts(subject, dtype, case, kept):
    settings = legal(subject, case) | ({} if kept else {"weight_decay": 0.0})
    trainer, oracle = trainer_and_oracle(subject, case.params, settings, dtype)
    for epoch in case.epochs:
        empty = [(tokens, targets, np.zeros_like(mask)) for tokens, targets, mask in epoch]
        oracle.train(empty, case.accumulate)
        for record in trainer.train(empty, case.accumulate):
            loss, norm = float(record["loss"]), float(record["grad_norm"])
            holds("LOOP-08", loss == 0.0 == norm, f"nothing to predict: loss {loss}, gradient norm {norm}")
    after = arrays(trainer)
    same_bytes("LOOP-08", after["b"], to(dtype, case.params["b"]), "b, which does not decay")
    if settings["weight_decay"]:
        within("LOOP-08", after, bounded(oracle.parameters()), dtype)
    else:
        for name in ("E", "W"):
            same_bytes("LOOP-08", after[name], to(dtype, case.params[name]), f"{name} without weight decay")


# ---- invariances


@checks("LOOP-09", case=loop_cases(passes=(1, 1)), rng=generators, pieces=st.integers(1, 4))
def test_how_a_window_is_cut_makes_no_difference(subject, case, rng, pieces):
    """The rows of a window shuffled and divided into other micro-batches, each padded to its own longest row."""
    dtype = either(subject, case.settings["seed"])
    window, settings = case.epochs[0], legal(subject, case, 1)
    agree_after_one_update(
        "LOOP-09", subject, dtype, case.params, settings, window, cut_again(window, rng, pieces)
    )


def cut_again(window, rng, pieces):
    """The rows of a window, shuffled and divided into at most this many micro-batches."""
    rows = [(tokens[i], targets[i], mask[i]) for tokens, targets, mask in window for i in range(len(mask))]
    parts = np.array_split(rng.permutation(len(rows)), min(pieces, len(rows)))
    return [stacked([rows[i] for i in part]) for part in parts]


def stacked(rows):
    """One micro-batch of rows of unequal length; the padding is masked."""
    length = max(len(mask) for _, _, mask in rows)
    padded = [[np.pad(x, (0, length - len(x))) for x in row] for row in rows]
    return tuple(np.stack(parts) for parts in zip(*padded, strict=True))


@checks(
    "LOOP-10",
    case=loop_cases(passes=(1, 1)),
    rng=generators,
    columns=st.integers(0, 2),
    rows=st.integers(0, 2),
)
def test_masked_positions_make_no_difference(subject, case, rng, columns, rows):
    """Columns and rows of masked tokens are inserted anywhere, and the tokens at all masked positions are replaced."""
    dtype = either(subject, case.settings["seed"])
    window, settings = case.epochs[0], legal(subject, case, 1)
    padded = [with_masked(batch, rng, columns, rows, len(case.params["b"])) for batch in window]
    agree_after_one_update("LOOP-10", subject, dtype, case.params, settings, window, padded)


def with_masked(batch, rng, columns, rows, vocab):
    """The micro-batch with inserted masked columns and rows, and random tokens and targets at masked positions."""
    for axis, count in ((1, columns), (0, rows)):
        places = rng.integers(0, batch[2].shape[axis] + 1, count)
        batch = tuple(np.insert(x, places, np.zeros((), x.dtype), axis=axis) for x in batch)
    tokens, targets, mask = batch
    noise = rng.integers(0, vocab, (2, *mask.shape))
    return np.where(mask, tokens, noise[0]), np.where(mask, targets, noise[1]), mask


def agree_after_one_update(rule, subject, dtype, params, settings, window, other):
    """Both windows give the same record and the same parameters, within the sum of the bounds of the two runs."""
    results = []
    for batches in (window, other):
        trainer, oracle = trainer_and_oracle(subject, params, settings, dtype)
        (record,), (wanted,) = trainer.train(batches, len(batches)), oracle.train(batches, len(batches))
        names = "loss", "grad_norm"
        got = {"record": logged([record], *names)[0], "parameters": arrays(trainer)}
        allowed = {"record": expected([wanted], *names)[0], "parameters": bounded(oracle.parameters())}
        holds(
            rule,
            int(record["tokens"]) == predicted(window),
            f"{record['tokens']} tokens instead of {predicted(window)}",
        )
        results.append((got, allowed))
    (got, allowed), (other_got, other_allowed) = results
    within(rule, got, bounds.map_arrays(apart, other_got, allowed, other_allowed), dtype)


@checks("LOOP-11", case=loop_cases(passes=(2, 3), longest=6, dropout=NO_DROPOUT | DROPOUT))
def test_an_epoch_that_ends_with_a_whole_window_leaves_no_trace(subject, case):
    """The same windows in one call of train and in several give the same bytes."""
    dtype = either(subject, case.settings["seed"])
    whole = [epoch for epoch in case.epochs if len(epoch) >= case.accumulate]
    assume(len(whole) > 1)
    epochs = [epoch[: len(epoch) // case.accumulate * case.accumulate] for epoch in whole]
    settings = legal(subject, case)
    several, one = (subject.trainer(to(dtype, case.params), settings) for _ in range(2))
    records = [record for epoch in epochs for record in several.train(epoch, case.accumulate)]
    at_once = one.train([batch for epoch in epochs for batch in epoch], case.accumulate)
    same_run("LOOP-11", records, at_once, "in several passes, and in one")
    same_arrays("LOOP-11", arrays(several), arrays(one), "after several passes, and after one")


# ---- windows that are not finite


@checks(
    "LOOP-12",
    case=loop_cases(passes=(1, 1), longest=3, dropout=NO_DROPOUT),
    rng=generators,
    value=not_finite,
    place=st.sampled_from(["first", "last", "only"]),
    trained=st.booleans(),
)
def test_a_window_that_is_not_finite_changes_nothing(subject, case, rng, value, place, trained):
    """One row of E is not finite, and one token of one micro-batch uses it. Raising and skipping are both right."""
    dtype = either(subject, case.settings["seed"])
    vocab = len(case.params["b"])
    good = [(np.minimum(tokens, vocab - 2), targets, mask) for tokens, targets, mask in case.epochs[0]]
    bad = spoiled(good, rng, vocab, place)
    params = dict(case.params, E=case.params["E"].copy())
    params["E"][vocab - 1] = float(value)
    settings = legal(subject, case, 3)
    trainer = subject.trainer(to(dtype, params), settings)
    if trained:
        trainer.train(good, len(good))
    before = arrays(trainer)
    train_or_raise(trainer, bad, len(bad))
    same_arrays("LOOP-12", arrays(trainer), before, f"{value} in the {place} micro-batch")
    train_or_raise(trainer, good, len(good))
    stays_finite(trainer, vocab, "the window after it: the moments were changed")


@checks("LOOP-12", case=loop_cases(passes=(1, 1)), rng=generators, value=not_finite, at=st.integers(0, 2))
def test_a_window_that_is_not_finite_is_noticed_anywhere_in_an_epoch(subject, case, rng, value, at):
    """One of three windows of a pass is not finite. Whether the loop then makes the other updates is its own choice."""
    dtype = either(subject, case.settings["seed"])
    vocab = len(case.params["b"])
    good = [(np.minimum(tokens, vocab - 2), targets, mask) for tokens, targets, mask in case.epochs[0]]
    bad = [*good[:-1], *spoiled([], rng, vocab, "only")]
    params = dict(case.params, E=case.params["E"].copy())
    params["E"][vocab - 1] = float(value)
    trainer = subject.trainer(to(dtype, params), legal(subject, case, 3))
    passed = [good, good, good]
    passed[at] = bad
    train_or_raise(trainer, [batch for window in passed for batch in window], len(good))
    stays_finite(trainer, vocab, f"an epoch with {value} in window {at} of 3")


def train_or_raise(trainer, batches, accumulate):
    """Train; an exception is a correct answer."""
    try:
        trainer.train(batches, accumulate)
    except Misbehaviour as error:
        if error.rule != "SUBJ-05":
            raise


def stays_finite(trainer, vocab, what):
    """Every parameter is finite, except the last row of E, which was not finite from the start."""
    for name, x in arrays(trainer).items():
        finite = np.isfinite(x[: vocab - 1] if name == "E" else x).all()
        holds("LOOP-12", finite, f"{name} is not finite after {what}")


def spoiled(window, rng, vocab, place):
    """The window with a micro-batch added at this place whose only predicted input is the last token."""
    tokens, targets, mask = micro_batch(rng, vocab - 1, 2, 2, "one")
    bad = np.where(mask, vocab - 1, tokens), targets, mask
    if place == "only":
        return [bad]
    return [bad, *window] if place == "first" else [*window, bad]


# ---- shared memory


@checks("LOOP-13", case=loop_cases(passes=(2, 2), longest=3, dropout=NO_DROPOUT | DROPOUT), seed=seeds)
def test_the_loop_shares_no_memory(subject, case, seed):
    """The caller overwrites every array that it passed or received: the run goes on as if it had not.

    Arrays that were returned earlier keep their values while the run goes on.
    """
    dtype = either(subject, case.settings["seed"])
    first, second = case.epochs
    settings = legal(subject, case)
    plain = subject.trainer(to(dtype, case.params), settings)
    undisturbed = [plain.train(first, case.accumulate), plain.train(second, case.accumulate)]

    passed = {name: np.array(x, dtype=dtype) for name, x in case.params.items()}
    trainer = subject.trainer(passed, settings)
    buffer = [tuple(x.copy() for x in batch) for batch in first]
    records = trainer.train(buffer, case.accumulate)
    same_run("LOOP-13", records, undisturbed[0], "two trainers of the same settings")
    same_arrays(
        "LOOP-13", passed, to(dtype, case.params), "the arrays the trainer was made from, after training"
    )
    returned = trainer.parameters()
    kept = {name: np.array(returned[name]) for name in passed}
    overwrite(passed, buffer)
    same_arrays("LOOP-13", arrays(trainer), kept, "after its caller wrote into what it had passed")
    again = trainer.train(second, case.accumulate)
    same_arrays("LOOP-13", returned, kept, "parameters returned before the last epoch")
    same_run("LOOP-13", again, undisturbed[1], "after its caller wrote into what it had passed")
    final = arrays(trainer)
    for x in (y for y in trainer.parameters().values() if isinstance(y, np.ndarray) and y.flags.writeable):
        x[...] = 7.0
    same_arrays("LOOP-13", arrays(trainer), final, "after its caller wrote into what parameters() returned")


def overwrite(params, buffer):
    """Write other values into every array."""
    for x in params.values():
        x[...] = 7.0
    for tokens, targets, mask in buffer:
        tokens[...], targets[...], mask[...] = 0, 0, True


# ---- an example that can be computed by hand


@checks("LOOP-05", "LOOP-02")
def test_one_token_by_hand(subject, dtype):
    """V = 2, all parameters 0: the loss is log 2, the gradient of b is (-1/2, 1/2), and AdamW moves b by the rate."""
    params = {"E": np.zeros((2, 1)), "W": np.zeros((1, 2)), "b": np.zeros(2)}
    settings = {
        "seed": 0,
        "dropout": 0.0,
        "peak": 0.25,
        "floor": 0.25,
        "warmup": 0,
        "total": 4,
        "beta1": 0.5,
        "beta2": 0.5,
        "eps": 1e-8,
        "weight_decay": 0.5,
        "max_norm": 10.0,
    }
    batch = np.array([[1]]), np.array([[0]]), np.array([[True]])
    trainer, oracle = trainer_and_oracle(subject, params, settings, dtype)
    records, wanted = trainer.train([batch], 1), oracle.train([batch], 1)
    within("LOOP-02", logged(records, "loss"), expected(wanted, "loss"), dtype)
    within("LOOP-05", arrays(trainer), bounded(oracle.parameters()), dtype)
