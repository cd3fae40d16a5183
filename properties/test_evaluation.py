"""Evaluation and dropout in the loop: evaluation is the token mean without dropout and changes nothing; training
applies dropout in every update, by a mask that depends on the seed, the update and the row.

At a learning rate of 0 no parameter moves, so that the loss of the same micro-batch depends on its dropout mask alone.
"""

import itertools
import random

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from fixtures.loop_strategies import (
    DROPOUT,
    NO_DROPOUT,
    loop_cases,
    micro_batch,
    parameters,
    predicted,
)
from fixtures.strategies import generators, run_seeds
from properties.assertions import holds, same_bytes, within
from properties.chance import deviation_limit
from properties.checks import checks
from properties.dtypes import either, to
from properties.loop_helpers import arrays, legal, same_arrays, same_run, variants
from reference import bounds
from reference.training_bounds import TracedTrainer, bounded

STILL = {
    "peak": 0.0,
    "floor": 0.0,
    "warmup": 0,
    "total": 100,
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.1,
    "max_norm": 1.0,
}
"""Settings with a learning rate of 0, so that no parameter moves; seed and dropout are missing."""
shares = st.sampled_from([0.5, 0.25])


def still(seed, dropout):
    """Settings in which no parameter moves, with this dropout."""
    return STILL | {"seed": seed, "dropout": dropout}


def one_batch(rng, rows=6, length=4, vocab=5, width=4):
    """(parameters, micro-batch); by default dropout acts on 96 entries, so that two masks are not equal by chance."""
    return parameters(rng, vocab, width), micro_batch(rng, vocab, rows, length)


def losses(records):
    """The logged loss of every update."""
    return [float(record["loss"]) for record in records]


def oracle_loss(params, batches, dtype):
    """The loss of these parameters in nats per predicted token of all batches, with its bound."""
    settings = still(0, 0.0)
    return bounded(TracedTrainer(to(np.float64, params), settings, dtype=dtype).evaluate(batches))


# ---- evaluation


@checks("EVAL-01", case=loop_cases(passes=(1, 2)))
def test_evaluation_is_the_token_mean_of_all_batches(subject, dtype, case):
    """Batches of unequal size and every kind of mask; before training and after it, on the subject's own parameters."""
    trainer = subject.trainer(to(dtype, case.params), legal(subject, case))
    for epoch in [case.epochs[0], None]:
        if predicted(case.batches):
            in_double = {name: x.astype(np.float64) for name, x in arrays(trainer).items()}
            expected = oracle_loss(in_double, case.batches, dtype)
            within("EVAL-01", trainer.evaluate(case.batches), expected, dtype)
        if epoch:
            trainer.train(epoch, case.accumulate)


@checks("EVAL-02", rng=generators, dropout=shares, trained=st.booleans())
def test_evaluation_has_no_dropout(subject, dtype, rng, dropout, trained):
    params, batch = one_batch(rng)
    trainer = subject.trainer(to(dtype, params), still(7, dropout))
    if trained:
        trainer.train([batch], 1)
    within("EVAL-02", trainer.evaluate([batch]), oracle_loss(params, [batch], dtype), dtype)


@checks("EVAL-03", case=loop_cases(passes=(2, 3), longest=3, dropout=NO_DROPOUT | DROPOUT))
def test_evaluation_changes_nothing(subject, case):
    """A run that evaluates twice before each epoch is equal, bit for bit, to one that never evaluates."""
    dtype = either(subject, case.settings["seed"])
    settings = legal(subject, case)
    plain, evaluating = (subject.trainer(to(dtype, case.params), settings) for _ in range(2))
    batches = case.batches
    for number, epoch in enumerate(case.epochs):
        before = arrays(evaluating)
        first, again = evaluating.evaluate(batches), evaluating.evaluate(batches)
        same_bytes("EVAL-03", np.float64(again), np.float64(first), f"evaluated twice before epoch {number}")
        same_arrays("EVAL-03", arrays(evaluating), before, "after evaluation")
        wanted, got = plain.train(epoch, case.accumulate), evaluating.train(epoch, case.accumulate)
        same_run("EVAL-03", got, wanted, f"epoch {number}, with and without evaluation")
        what = f"after epoch {number}, with and without evaluation"
        same_arrays("EVAL-03", arrays(evaluating), arrays(plain), what)


# ---- dropout


@checks("RNG-01", rng=generators, dropout=shares, seed=run_seeds)
def test_dropout_acts_in_every_update(subject, rng, dropout, seed):
    """Also in the update after an evaluation, and in the second epoch."""
    dtype = either(subject, seed)
    params, batch = one_batch(rng)
    trainer = subject.trainer(to(dtype, params), still(seed, dropout))
    found = losses(trainer.train([batch] * 2, 1))
    without = float(trainer.evaluate([batch]))
    found += losses(trainer.train([batch] * 2, 1))
    off = [k for k, loss in enumerate(found) if may_be_equal(loss, without, params, batch, dtype)]
    holds("RNG-01", not off, f"the loss of update {off} is that without dropout, {without}")


@checks("RNG-02", rng=generators, dropout=shares, seed=run_seeds)
def test_every_update_and_every_seed_has_its_own_mask(subject, rng, dropout, seed):
    dtype = either(subject, seed)
    params, batch = one_batch(rng)

    def run(number):
        trainer = subject.trainer(to(dtype, params), still(number, dropout))
        return losses(trainer.train([batch] * 2, 1) + trainer.train([batch] * 2, 1))

    first, again, other = run(seed), run(seed), run((seed + 1) % 2**64)
    same_bytes("RNG-02", first, again, "losses of two runs with the same seed")
    found = f"two updates have the same loss, hence the same mask: {first}"
    holds("RNG-02", len(set(first)) == len(first), found)
    found = f"seeds {seed} and {(seed + 1) % 2**64} give the same losses: {first}"
    holds("RNG-02", not set(first) & set(other), found)


@checks("RNG-03", rng=generators, dropout=shares, seed=run_seeds)
def test_every_row_of_a_window_has_its_own_mask(subject, rng, dropout, seed):
    """A row alone, twice in one micro-batch, and in two micro-batches of a window.

    If both rows had the mask of the first, all three losses would be equal.
    """
    dtype = either(subject, seed)
    params, row = one_batch(rng, rows=1, length=24)
    twice = tuple(np.concatenate([x, x]) for x in row)
    trainers = [subject.trainer(to(dtype, params), still(seed, dropout)) for _ in range(3)]
    windows = [row], [twice], [row, row]
    single, double, split = (
        losses(trainer.train(window * 3, len(window)))
        for trainer, window in zip(trainers, windows, strict=True)
    )
    for found, where in ((double, "of a micro-batch"), (split, "of two micro-batches of a window")):
        equal = [may_be_equal(a, b, params, row, dtype) for a, b in zip(found, single, strict=True)]
        holds("RNG-03", not all(equal), f"the rows {where} have the same mask in all {len(equal)} updates")


def may_be_equal(a, b, params, batch, dtype):
    """Whether two losses differ by no more than the rounding errors of two equal ones."""
    return bounds.compare(a, b, 2.0 * oracle_loss(params, [batch], dtype).bound).within


class Masked(TracedTrainer):
    """The oracle's loop with a given dropout mask, for batches of one token."""

    mask: tuple[int, ...]

    def kept(self, shape, first_row):
        return np.array(self.mask, dtype=bool).reshape(1, 1, -1)


MASKS = [(0, 0), (0, 1), (1, 0), (1, 1)]
ONE_TOKEN = np.array([[0]]), np.array([[1]]), np.array([[True]])


def masked_oracles(params, settings, dtype, **conventions):
    """The oracle's loop with each of the four masks of two features."""
    oracles = [Masked(params, settings, dtype=dtype, **conventions) for _ in MASKS]
    for oracle, mask in zip(oracles, MASKS, strict=True):
        oracle.mask = mask
    return oracles


@checks("RNG-04", seed=run_seeds, dropout=st.sampled_from([0.5, 0.1, 0.25]), rng=generators)
def test_entries_are_dropped_and_the_others_scaled(subject, seed, dropout, rng):
    """One token of two features, 24 updates: each loss must be that of one of the four masks."""
    dtype = either(subject, seed)
    params, settings = parameters(rng, 3, 2), still(seed, dropout)
    oracles = masked_oracles(params, settings, dtype)
    candidates = [bounded(oracle.gather([ONE_TOKEN]).nll) for oracle in oracles]
    trainer = subject.trainer(to(dtype, params), settings)
    drawn = []
    for found in losses(trainer.train([ONE_TOKEN] * 24, 1)):
        nearest = nearest_to(found, candidates)
        within("RNG-04", found, candidates[nearest], dtype)
        drawn.append(MASKS[nearest])
    dropped = 1.0 - np.mean(drawn)
    found = f"{dropped:.2f} of the entries are dropped, p is {dropout}"
    holds("RNG-04", abs(dropped - dropout) <= deviation_limit(48), found)
    mixed = {(0, 1), (1, 0)} & set(drawn)
    holds("RNG-04", dropout < 0.5 or mixed, "both features of a token are always dropped together")


def distinct(a, b):
    """Whether two losses differ by so much that a correct loss can be within the bound of one of them only."""
    return abs(float(a.value) - float(b.value)) > 2.0 * float(a.bound + b.bound)


def nearest_to(loss, candidates):
    """The index of the loss that is nearest."""
    return min(range(len(candidates)), key=lambda i: abs(loss - float(candidates[i].value)))


@checks("RNG-06", case=loop_cases(passes=(1, 1), longest=1, dropout=DROPOUT), rng=generators)
def test_the_gradient_is_taken_with_the_mask_of_the_loss(subject, dtype, case, rng):
    """The loss of one token shows which of four masks was drawn; norm and parameters must be those of the same mask."""
    params, settings = parameters(rng, 3, 2), legal(subject, case, 1)
    trainer = subject.trainer(to(dtype, params), settings)
    oracles = masked_oracles(params, settings, dtype, **variants(subject))
    (record,) = trainer.train([ONE_TOKEN], 1)
    candidates = [bounded(oracle.gather([ONE_TOKEN]).nll) for oracle in oracles]
    assume(all(distinct(a, b) for a, b in itertools.combinations(candidates, 2)))
    oracle = oracles[nearest_to(float(record["loss"]), candidates)]
    (wanted,) = oracle.train([ONE_TOKEN], 1)
    within("RNG-06", float(record["grad_norm"]), bounded(wanted["grad_norm"]), dtype)
    within("RNG-06", arrays(trainer), bounded(oracle.parameters()), dtype)


@checks("RNG-05", case=loop_cases(passes=(2, 3), longest=3, dropout=DROPOUT), seed=run_seeds)
def test_a_run_does_not_depend_on_what_else_runs(subject, case, seed):
    """Another trainer that trains between its epochs, and reseeded global generators, change no bit."""
    dtype = either(subject, seed)
    settings = legal(subject, case)
    alone = subject.trainer(to(dtype, case.params), settings)
    wanted = [alone.train(epoch, case.accumulate) for epoch in case.epochs]
    trainer, other = (
        subject.trainer(to(dtype, case.params), settings | {"seed": s}) for s in (settings["seed"], seed)
    )
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the global generator is what is tested
    try:
        for epoch, records in zip(case.epochs, wanted, strict=True):
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            other.train(epoch[:1], 1)
            got = trainer.train(epoch, case.accumulate)
            same_bytes("RNG-05", losses(got), losses(records), "losses of a run beside another, and alone")
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
    same_arrays("RNG-05", arrays(trainer), arrays(alone), "after a run beside another, and alone")
