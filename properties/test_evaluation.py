"""Evaluation and dropout in the loop: evaluation is the token mean without dropout and changes nothing; training
applies dropout in every update, by a mask that depends on the seed, the update and the row.

At a learning rate of 0 no parameter moves, so that the loss of the same micro-batch depends on its dropout mask alone.
"""

import itertools
import random
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from fixtures.loop_strategies import (
    DROPOUT,
    LOUD,
    NO_DROPOUT,
    counted_case,
    loop_cases,
    micro_batch,
    parameters,
    predicted,
    wide_case,
)
from fixtures.strategies import generators, run_seeds
from honestloop.guard import Misbehaviour
from properties.assertions import holds, same_bytes, within
from properties.chance import deviation_limit
from properties.checks import checks
from properties.dtypes import either, to
from properties.loop_helpers import Kept, Loop, in_domain, same_arrays, same_run, variants
from reference import bounds
from reference.training_bounds import TracedTrainer, bounded

STILL = {
    "peak": 0.0,
    "floor": 0.0,
    "warmup": 0,
    "total": 1000,
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


def new_loop(subject, params, settings, accumulate, dtype):
    """The subject's loop."""
    return Loop(subject, subject.trainer, to(dtype, params), settings, accumulate)


def of_case(subject, case, dtype):
    """The subject's loop for a case."""
    return new_loop(subject, case.params, case.settings, case.accumulate, dtype)


def oracle_loss(params, batches, dtype):
    """The loss of these parameters in nats per predicted token of all batches, with its bound."""
    settings = still(0, 0.0)
    return bounded(TracedTrainer(to(np.float64, params), settings, dtype=dtype).evaluate(batches))


# ---- evaluation


@checks("EVAL-01", case=loop_cases(passes=(1, 2), models=LOUD))
def test_evaluation_is_the_token_mean_of_all_batches(subject, dtype, case):
    """Batches of unequal size and every kind of mask; before training and after it, on the subject's own parameters."""
    case = in_domain(subject, case)
    loop = of_case(subject, case, dtype)
    loop.needs("evaluate")
    for epoch in [case.epochs[0], None]:
        if predicted(case.batches):
            in_double = {name: x.astype(np.float64) for name, x in loop.arrays().items()}
            expected = oracle_loss(in_double, case.batches, dtype)
            within("EVAL-01", loop.evaluate(case.batches), expected, dtype)
        if epoch:
            loop.train(epoch)


@checks("EVAL-01")
def test_evaluation_counts_what_narrow_types_do_not_hold(subject, dtype):
    """More tokens than 16 bits count, and ids of more than 16 bits."""
    for case in (counted_case(2**16 + 1), wide_case()):
        batches = in_domain(subject, case).batches
        loop = of_case(subject, case, dtype)
        within("EVAL-01", loop.evaluate(batches), oracle_loss(case.params, batches, dtype), dtype)


@checks("EVAL-02", rng=generators, dropout=shares, trained=st.booleans())
def test_evaluation_has_no_dropout(subject, dtype, rng, dropout, trained):
    params, batch = one_batch(rng)
    loop = new_loop(subject, params, still(7, dropout), 1, dtype)
    loop.needs("evaluate")
    if trained:
        loop.train([batch])
    within("EVAL-02", loop.evaluate([batch]), oracle_loss(params, [batch], dtype), dtype)


@checks("EVAL-03", case=loop_cases(passes=(2, 3), longest=3, dropout=NO_DROPOUT | DROPOUT))
def test_evaluation_changes_nothing(subject, case):
    """A run that evaluates twice before each epoch is equal, bit for bit, to one that never evaluates.

    The records of the epoch before are what they were.
    """
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    assume(predicted(case.batches))
    plain = of_case(subject, case, dtype)
    plain.needs("evaluate")
    without = [(records, plain.arrays()) for _, records in plain.passes(case.epochs)]
    evaluating = of_case(subject, case, dtype)
    look(evaluating, case.batches, Kept([]), "before the first epoch")
    passes = zip(evaluating.passes(case.epochs), without, strict=True)
    for number, ((_, got), (wanted, after)) in enumerate(passes):
        same_run("EVAL-03", got, wanted, f"epoch {number}, with and without evaluation", plain.fields)
        what = f"after epoch {number}, with and without evaluation"
        same_arrays("EVAL-03", evaluating.arrays(), after, what)
        look(evaluating, case.batches, Kept(got), f"after epoch {number}")


def look(loop, batches, records, when):
    """Evaluate twice: the same value, and nothing else is changed."""
    before = loop.arrays()
    first, again = loop.evaluate(batches), loop.evaluate(batches)
    same_bytes("EVAL-03", np.float64(again), np.float64(first), f"evaluated twice {when}")
    same_arrays("EVAL-03", loop.arrays(), before, f"evaluated {when}")
    records.unchanged("EVAL-03", f"records returned before an evaluation {when}")


@checks("EVAL-05", case=loop_cases(passes=(1, 2), longest=3, dropout=NO_DROPOUT | DROPOUT))
def test_evaluation_changes_nothing_that_is_observed(subject, case):
    """Counters, generators, best values: whatever the trainer shows."""
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    assume(predicted(case.batches))
    loop = of_case(subject, case, dtype)
    loop.needs("observed", "evaluate")
    for _ in loop.passes(case.epochs):
        before = Kept(loop.observed())
        loop.evaluate(case.batches)
        before.equal("EVAL-05", loop.observed(), "observed before and after an evaluation")


@checks(
    "EVAL-04", case=loop_cases(passes=(2, 2), longest=3, dropout=NO_DROPOUT | DROPOUT), masked=st.booleans()
)
def test_an_evaluation_of_nothing_is_what_is_declared_and_changes_nothing(subject, case, masked):
    """No batch, or batches without a token to predict; before the first epoch, and after one."""
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    masked = masked and subject.conventions.domain == "any"
    nothing = [(x, y, np.zeros_like(mask)) for x, y, mask in case.epochs[0]] if masked else []
    plain = of_case(subject, case, dtype)
    plain.needs("evaluate")
    without = [records for _, records in plain.passes(case.epochs)]
    evaluating = of_case(subject, case, dtype)
    if predicted(case.batches):
        evaluating.evaluate(case.batches)
    nothing_is_as_declared(evaluating, nothing)
    for (_, got), wanted in zip(evaluating.passes(case.epochs), without, strict=True):
        same_run("EVAL-04", got, wanted, "with an evaluation of nothing, and without", plain.fields)
        nothing_is_as_declared(evaluating, nothing)


def nothing_is_as_declared(loop, nothing):
    """0, NaN, or an exception."""
    declared = loop.conventions.empty_evaluation
    try:
        found = str(float(loop.evaluate(nothing)))
    except Misbehaviour as error:
        if error.rule != "SUBJ-05":
            raise
        found = "raises"
    wanted = {"0": "0.0"}.get(declared, declared)
    holds(
        "EVAL-04", found == wanted, f"{len(nothing)} batches with nothing to predict: {found}, not {wanted}"
    )


# ---- dropout


@checks("RNG-01", rng=generators, dropout=shares, seed=run_seeds)
def test_dropout_acts_in_every_update(subject, rng, dropout, seed):
    """Also in the update after an evaluation, and in the second epoch."""
    dtype = either(subject, seed)
    params, batch = one_batch(rng)
    loop = new_loop(subject, params, still(seed, dropout), 1, dtype)
    epochs = [[batch] * 2] * 2
    without, found = oracle_loss(params, [batch], dtype), []
    for _, records in loop.passes(epochs):
        found += losses(records)
        if "evaluate" in loop.parts:
            loop.evaluate([batch])
    off = [k for k, loss in enumerate(found) if may_be_equal(loss, without.value, params, batch, dtype)]
    holds("RNG-01", not off, f"the loss of update {off} is that without dropout, {float(without.value)}")


edges = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1])
distances = st.sampled_from([1, 2**32, 2**63, 2**31, 2**16])


@checks("RNG-02", rng=generators, dropout=shares, seed=run_seeds | edges, distance=distances)
def test_every_update_and_every_seed_has_its_own_mask(subject, rng, dropout, seed, distance):
    """Seeds at every edge of the integers and floats in which they are kept, beside others that differ in one bit."""
    dtype = either(subject, seed)
    params, batch = one_batch(rng)

    def run(number):
        loop = new_loop(subject, params, still(number, dropout), 1, dtype)
        return losses(loop.run([[batch] * 2] * 2))

    first, again = run(seed), run(seed)
    same_bytes("RNG-02", first, again, "losses of two runs with the same seed")
    found = f"two updates have the same loss, hence the same mask: {first}"
    holds("RNG-02", len(set(first)) == len(first), found)
    own_masks_for_every_seed(subject, run, seed, first, distance)


def own_masks_for_every_seed(subject, run, seed, first, distance):
    """The run of another seed has none of these losses; where the seed is fixed, all of them."""
    beside = (seed + distance) % 2**64
    if subject.conventions.seeded == "fixed":
        same_bytes(
            "RNG-02", run(beside), first, f"losses of seeds {seed} and {beside}, though the seed is fixed"
        )
        return
    if used(subject, beside) == used(subject, seed):
        return
    found = f"seeds {seed} and {beside} give the same losses: {first}"
    holds("RNG-02", not set(first) & set(run(beside)), found)


def used(subject, seed):
    """The part of a seed that the subject's generator uses."""
    return seed if subject.conventions.seeds == "64 bits" else seed % 2**32


@checks("RNG-02", rng=generators)
def test_seed_zero_and_the_edges_are_seeds(subject, rng):
    """Seed 0 repeats its run; no two seeds at the edges of 32, 53, 63 and 64 bits give one and the same run.

    Unless they differ only in bits that the subject says it does not use.
    """
    dtype = subject.conventions.float_types[0]
    params, batch = one_batch(rng)
    wanted = (0, 1, 2**32, 2**32 + 1, 2**53, 2**53 + 1, 2**63, 2**64 - 1)
    numbers = {used(subject, number): number for number in wanted[::-1]}.values()
    runs: dict[int, Any] = {}
    for number in (*numbers, 0):
        loop = new_loop(subject, params, still(number, 0.5), 1, dtype)
        (loss,) = losses(loop.run([[batch]]))
        same_bytes("RNG-02", loss, runs.setdefault(number, loss), f"loss of seed {number}, again")
    different = 1 if subject.conventions.seeded == "fixed" else len(numbers)
    found = f"{len(set(runs.values()))} different losses of the seeds {runs}, expected {different}"
    holds("RNG-02", len(set(runs.values())) == different, found)


@checks("RNG-02")
def test_masks_do_not_return_after_a_byte_of_updates(subject):
    """The losses of 258 updates of one batch at rate 0."""
    rng = np.random.default_rng(0)
    params, batch = one_batch(rng)
    loop = new_loop(subject, params, still(1, 0.5), 1, subject.conventions.float_types[0])
    found = losses(loop.run([[batch] * 258]))
    holds(
        "RNG-02",
        len(set(found)) == len(found),
        f"{len(found) - len(set(found))} of 258 masks were seen before",
    )


@checks("RNG-03", rng=generators, dropout=shares, seed=run_seeds)
def test_every_row_of_a_window_has_its_own_mask(subject, rng, dropout, seed):
    """A row alone, twice in one micro-batch, in two micro-batches of a window, and 256 rows apart.

    If both rows had the mask of the first, all losses would be equal.
    """
    dtype = either(subject, seed)
    params, row = one_batch(rng, rows=1, length=24)
    twice = tuple(np.concatenate([x, x]) for x in row)
    windows = {"alone": [row], "of a micro-batch": [twice], "of two micro-batches of a window": [row, row]}
    if subject.conventions.domain == "any":
        between = tuple(np.repeat(x, 255, axis=0) for x in row)
        windows["256 rows apart"] = [row, (*between[:2], np.zeros_like(between[2])), row]
    found = {}
    for where, window in windows.items():
        loop = new_loop(subject, params, still(seed, dropout), len(window), dtype)
        found[where] = losses(loop.run([window * 3]))
    single = found.pop("alone")
    for where, double in found.items():
        equal = [may_be_equal(a, b, params, row, dtype) for a, b in zip(double, single, strict=True)]
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
    loop = new_loop(subject, params, settings, 1, dtype)
    drawn = []
    for found in losses(loop.run([[ONE_TOKEN] * 24])):
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
    params, settings = parameters(rng, 3, 2), in_domain(subject, case, 1).settings
    loop = new_loop(subject, params, settings, 1, dtype)
    oracles = masked_oracles(params, settings, dtype, **variants(subject))
    (record,) = loop.run([[ONE_TOKEN]])
    candidates = [bounded(oracle.gather([ONE_TOKEN]).nll) for oracle in oracles]
    assume(all(distinct(a, b) for a, b in itertools.combinations(candidates, 2)))
    oracle = oracles[nearest_to(float(record["loss"]), candidates)]
    (wanted,) = oracle.train([ONE_TOKEN], 1)
    if "grad_norm" in loop.fields:
        within("RNG-06", float(record["grad_norm"]), bounded(wanted["grad_norm"]), dtype)
    within("RNG-06", loop.arrays(), bounded(oracle.parameters()), dtype)


@checks("RNG-05", case=loop_cases(passes=(2, 3), longest=3, dropout=DROPOUT), seed=run_seeds)
def test_a_run_does_not_depend_on_what_else_runs(subject, case, seed):
    """Another trainer that trains between its epochs, and reseeded global generators, change no bit."""
    dtype = either(subject, seed)
    case = in_domain(subject, case)
    alone, loop = of_case(subject, case, dtype), of_case(subject, case, dtype)
    other = new_loop(subject, case.params, case.settings | {"seed": seed}, 1, dtype)
    wanted = [records for _, records in alone.passes(case.epochs)]
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the global generator is what is tested
    try:
        passes = loop.passes(case.epochs)
        for number, records in enumerate(wanted):
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            if number == 0 or not other.fits:
                other.train(case.epochs[0][:1])
            _, got = next(passes)
            same_bytes("RNG-05", losses(got), losses(records), "losses of a run beside another, and alone")
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
    same_arrays("RNG-05", loop.arrays(), alone.arrays(), "after a run beside another, and alone")
