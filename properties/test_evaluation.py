"""Evaluation, and dropout: it acts in training, and only there; nothing is left of either in the other.

At a rate of 0 no parameter moves, so that the loss of the same micro-batch shows its mask and nothing else.
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
    playable,
    predicted,
)
from fixtures.strategies import generators, run_seeds
from properties.assertions import holds, same_bytes, within
from properties.checks import checks
from properties.dtypes import either, to
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
"""Settings in which no parameter moves."""
shares = st.sampled_from([0.5, 0.25])


def still(seed, dropout):
    """Settings in which no parameter moves, with dropout."""
    return STILL | {"seed": seed, "dropout": dropout}


def one_batch(rng, rows=6, length=4, vocab=5, width=4):
    """(parameters, micro-batch): 96 entries for a mask to act on, by default; two masks are hardly ever equal."""
    return parameters(rng, vocab, width), micro_batch(rng, vocab, rows, length)


def arrays(trainer):
    """The parameters by name, in the order of the protocol."""
    found = trainer.parameters()
    return {name: np.asarray(found[name]) for name in ("E", "W", "b")}


def losses(records):
    return [float(record["loss"]) for record in records]


def oracle_loss(params, batches, dtype):
    """The loss of these parameters on all batches together, with its bound."""
    settings = still(0, 0.0)
    return bounded(TracedTrainer(to(np.float64, params), settings, dtype=dtype).evaluate(batches))


# ---- evaluation


@checks("EVAL-01", case=loop_cases(passes=(1, 2)))
def test_evaluation_is_the_token_mean_of_all_batches(subject, dtype, case):
    """Unequal batches, masks of every kind; before training, and after it on the subject's own parameters."""
    settings = playable(case.settings, case.updates, subject.conventions.schedule)
    trainer = subject.trainer(to(dtype, case.params), settings)
    for epoch in [case.epochs[0], None]:
        if predicted(case.batches):
            in_double = {name: x.astype(np.float64) for name, x in arrays(trainer).items()}
            within(
                "EVAL-01", trainer.evaluate(case.batches), oracle_loss(in_double, case.batches, dtype), dtype
            )
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
    """A run that evaluates before, between and after its epochs, and one that never does, are equal to the last bit."""
    dtype = either(subject, case.settings["seed"])
    settings = playable(case.settings, case.updates, subject.conventions.schedule)
    quiet, watching = (subject.trainer(to(dtype, case.params), settings) for _ in range(2))
    batches = case.batches
    for number, epoch in enumerate(case.epochs):
        before = arrays(watching)
        first, again = watching.evaluate(batches), watching.evaluate(batches)
        same_bytes("EVAL-03", np.float64(again), np.float64(first), f"evaluated twice before epoch {number}")
        for name, x in arrays(watching).items():
            same_bytes("EVAL-03", x, before[name], f"{name} after evaluation")
        wanted, got = quiet.train(epoch, case.accumulate), watching.train(epoch, case.accumulate)
        for name in ("loss", "grad_norm", "lr", "tokens"):
            found, plain = ([np.float64(record[name]) for record in records] for records in (got, wanted))
            same_bytes("EVAL-03", found, plain, f"{name} in epoch {number}, with and without evaluation")
        for name, x in arrays(quiet).items():
            same_bytes(
                "EVAL-03",
                arrays(watching)[name],
                x,
                f"{name} after epoch {number}, with and without evaluation",
            )


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
    off = [k for k, loss in enumerate(found) if agree(loss, without, params, batch, dtype)]
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
    holds(
        "RNG-02",
        len(set(first)) == len(first),
        f"two updates have the same loss, hence the same mask: {first}",
    )
    holds(
        "RNG-02",
        not set(first) & set(other),
        f"seeds {seed} and {(seed + 1) % 2**64} give the same losses: {first}",
    )


@checks("RNG-03", rng=generators, dropout=shares, seed=run_seeds)
def test_every_row_of_a_window_has_its_own_mask(subject, rng, dropout, seed):
    """One row, against the same row twice in a micro-batch, and in two micro-batches: were their masks equal, so were
    the losses."""
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
        equal = [agree(a, b, params, row, dtype) for a, b in zip(found, single, strict=True)]
        holds("RNG-03", not all(equal), f"the rows {where} have the same mask in all {len(equal)} updates")


def agree(a, b, params, batch, dtype):
    """Whether two losses are as near as roundings could bring equal ones."""
    return bounds.compare(a, b, 2.0 * oracle_loss(params, [batch], dtype).bound).within


class Masked(TracedTrainer):
    """The oracle's loop with a mask of our choice, for one token."""

    mask: tuple[int, ...]

    def kept(self, shape, first_row):
        return np.array(self.mask, dtype=bool).reshape(1, 1, -1)


MASKS = [(0, 0), (0, 1), (1, 0), (1, 1)]
ONE_TOKEN = np.array([[0]]), np.array([[1]]), np.array([[True]])


def masked(params, settings, dtype, **conventions):
    """The oracle's loop for each mask of two features."""
    oracles = [Masked(params, settings, dtype=dtype, **conventions) for _ in MASKS]
    for oracle, mask in zip(oracles, MASKS, strict=True):
        oracle.mask = mask
    return oracles


@checks("RNG-04", seed=run_seeds, dropout=st.sampled_from([0.5, 0.1, 0.25]), rng=generators)
def test_entries_are_dropped_and_the_others_scaled(subject, seed, dropout, rng):
    """One token, two features, 24 updates: each loss is that of one of the four masks. P(so many dropped) < 1e-9."""
    dtype = either(subject, seed)
    params, settings = parameters(rng, 3, 2), still(seed, dropout)
    candidates = [bounded(oracle.gather([ONE_TOKEN]).nll) for oracle in masked(params, settings, dtype)]
    trainer = subject.trainer(to(dtype, params), settings)
    drawn = []
    for found in losses(trainer.train([ONE_TOKEN] * 24, 1)):
        nearest = nearest_to(found, candidates)
        within("RNG-04", found, candidates[nearest], dtype)
        drawn.append(MASKS[nearest])
    dropped = 1.0 - np.mean(drawn)
    allowed = np.sqrt(np.log(2.0 / 1e-9) / (2.0 * 48.0))  # Hoeffding's inequality for 48 independent entries
    holds(
        "RNG-04",
        abs(dropped - dropout) <= allowed,
        f"{dropped:.2f} of the entries are dropped, p is {dropout}",
    )
    mixed = {(0, 1), (1, 0)} & set(drawn)
    holds("RNG-04", dropout < 0.5 or mixed, "both features of a token are always dropped together")


def distinct(a, b):
    """Whether no correct subject can take one loss for the other."""
    return abs(float(a.value) - float(b.value)) > 2.0 * float(a.bound + b.bound)


def nearest_to(loss, candidates):
    """Which of the four losses this is."""
    return min(range(len(candidates)), key=lambda i: abs(loss - float(candidates[i].value)))


@checks("RNG-06", case=loop_cases(passes=(1, 1), longest=1, dropout=DROPOUT), rng=generators)
def test_the_gradient_is_taken_with_the_mask_of_the_loss(subject, dtype, case, rng):
    """The loss of one token tells which of four masks was drawn; norm and parameters must be those of the same one."""
    declared = subject.conventions
    params, settings = parameters(rng, 3, 2), playable(case.settings, 1, declared.schedule)
    others = {"schedule": declared.schedule, "scalars": declared.scalars}
    trainer = subject.trainer(to(dtype, params), settings)
    oracles = masked(params, settings, dtype, **declared.adamw, **declared.clipping, **others)
    (record,) = trainer.train([ONE_TOKEN], 1)
    candidates = [bounded(oracle.gather([ONE_TOKEN]).nll) for oracle in oracles]
    assume(all(distinct(a, b) for a, b in itertools.combinations(candidates, 2)))
    oracle = oracles[nearest_to(float(record["loss"]), candidates)]
    (wanted,) = oracle.train([ONE_TOKEN], 1)
    within("RNG-06", float(record["grad_norm"]), bounded(wanted["grad_norm"]), dtype)
    within("RNG-06", arrays(trainer), bounded(oracle.parameters()), dtype)


@checks("RNG-05", case=loop_cases(passes=(2, 3), longest=3, dropout=DROPOUT), seed=run_seeds)
def test_a_run_does_not_depend_on_what_else_runs(subject, case, seed):
    """Another trainer at work between its epochs, and other states of the global generators, change no bit."""
    dtype = either(subject, seed)
    settings = playable(case.settings, case.updates, subject.conventions.schedule)
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
    for name, x in arrays(alone).items():
        same_bytes("RNG-05", arrays(trainer)[name], x, f"{name} after a run beside another, and alone")
