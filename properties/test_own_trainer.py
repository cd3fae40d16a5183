"""A loop with a model of its own, whatever it is, judged without an oracle by what must hold of any.

Runs are compared bit for bit where the same numbers are computed in the same order, and else within the noise that is
measured on the loop itself (reference/measured_noise.py). A loop may keep its state in the global generators of its
process, so that a run is over before the next trainer is made.
"""

import copy
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from fixtures.own_trainer_strategies import equal_rows, runs, unequal_rows
from fixtures.strategies import generators, run_seeds
from fixtures.temporary_folder import temporary_folder
from honestloop.guard import has, same
from properties.assertions import holds, not_offered, same_bytes, within
from properties.checks import checks
from properties.dtypes import either
from properties.own_trainer_helpers import (
    batch_of,
    fitting,
    free,
    groups,
    heeds,
    losses,
    needs_unequal_rows,
    offers,
    put,
    reduction,
    same_update,
    settings,
    trained,
    vocab,
    weights,
)
from reference.bounds import Bounded
from reference.measured_noise import Outcome, measured


def maker(subject, seed, **others):
    """(a function that makes trainers of these settings, their dtype)."""
    dtype = either(subject, seed)
    return lambda: subject.own_trainer(settings(seed, dtype, **others)), dtype


def noisy(subject, seed, **others):
    """The same, with dropout if the loop heeds it."""
    make, _ = maker(subject, seed, **others)
    trainer = make()
    p = 0.5 if has(trainer, "heeds") and "dropout" in trainer.heeds else 0.0
    return maker(subject, seed, dropout=p, **others)


def one_run(trainer, batches):
    """Train on each of the batches, one update a call: the records, and the parameters."""
    records = [record for batch in batches for record in trainer.train([batch], 1)]
    return records, trainer.parameters()


def same_run(rule, got, wanted, what):
    """Equal records and equal parameters, bit for bit."""
    holds(rule, len(got[0]) == len(wanted[0]), f"{what}: {len(got[0])} records, and {len(wanted[0])}")
    for k, (a, b) in enumerate(zip(got[0], wanted[0], strict=True)):
        same_bytes(rule, np.float64(a["loss"]), np.float64(b["loss"]), f"{what}: loss of update {k}")
    for name, x in wanted[1].items():
        same_bytes(rule, got[1][name], x, f"{what}: {name}")


# ---- a batch, however it is cut


@checks("INV-01", seed=run_seeds, rows=equal_rows(4, 4), parts=st.sampled_from([2, 4]))
def test_micro_batches_make_the_update_of_the_batch(subject, seed, rows, parts):
    """Four rows of one length, in one batch, in two and in four."""
    make, dtype = maker(subject, seed)
    values = weights(make())
    noise = measured(trained(make, [rows]), values)
    size = len(rows) // parts
    cut = trained(make, [rows[i : i + size] for i in range(0, len(rows), size)])(values)
    same_update("INV-01", noise, cut, dtype, f"one batch of {len(rows)} rows, and {parts} micro-batches")


@checks("INV-02", seed=run_seeds, rows=unequal_rows(3, 4), first=st.integers(1, 2))
def test_every_predicted_token_weighs_the_same(subject, seed, rows, first):
    """Rows of unequal length, in one batch and in two."""
    make, dtype = maker(subject, seed)
    trainer = make()
    needs_unequal_rows(trainer)
    if reduction(trainer) == "batches":
        not_offered("own_trainer declares that each micro-batch of a window weighs the same")
    values = weights(trainer)
    noise = measured(trained(make, [rows]), values)
    cut = trained(make, [rows[:first], rows[first:]])(values)
    what = f"{len(rows)} rows of unequal length in one batch, and in micro-batches of {first} and the rest"
    same_update("INV-02", noise, cut, dtype, what)


@checks("INV-03", seed=run_seeds, rows=unequal_rows(2, 3))
def test_a_row_alone_is_a_row_among_longer_ones(subject, seed, rows):
    """The loss of a padded batch is the token-weighted mean of the losses of its rows."""
    make, dtype = maker(subject, seed)
    trainer = make()
    needs_unequal_rows(trainer)
    rows = fitting(trainer, rows)
    tokens = np.array([length for _, length in rows], np.float64)
    noise = measured(losses(make, rows, *([row] for row in rows)), weights(trainer))
    whole, alone = noise.losses.value[0], noise.losses.value[1:]
    bound = noise.losses.bound[0] + (tokens * noise.losses.bound[1:]).sum() / tokens.sum()
    within("INV-03", whole, Bounded((tokens * alone).sum() / tokens.sum(), np.asarray(bound)), dtype)


@checks("INV-03", seed=run_seeds, rows=unequal_rows(2, 3), more=st.integers(1, 4))
def test_columns_of_padding_change_no_update(subject, seed, rows, more):
    make, dtype = maker(subject, seed)
    trainer = make()
    vocab(trainer)
    needs_unequal_rows(trainer)
    rows = fitting(trainer, rows, more)
    values = weights(trainer)

    def padded(batch):
        return tuple(np.pad(x, ((0, 0), (0, more))) for x in batch)

    noise = measured(trained(make, [rows]), values)
    got = trained(make, [rows], padded)(values)
    same_update("INV-03", noise, got, dtype, f"with {more} more columns of padding")


def masked(rng, batch):
    """The batch with some tokens not predicted, at least one predicted and one not."""
    tokens, targets, mask = batch
    real = np.flatnonzero(mask)
    chosen = rng.permutation(real)[: rng.integers(1, max(len(real), 2))]
    kept = np.zeros(mask.size, dtype=bool)
    kept[chosen] = True
    return tokens, targets, kept.reshape(mask.shape)


@checks("INV-04", seed=run_seeds, rows=unequal_rows(2, 3), rng=generators)
def test_a_target_that_is_not_predicted_has_no_influence(subject, seed, rows, rng):
    """Other targets outside the loss mask; and the losses of two masks add up to that of both."""
    make, dtype = maker(subject, seed)
    trainer = make()
    size = vocab(trainer)
    needs_unequal_rows(trainer)
    values = weights(trainer)
    tokens, targets, mask = masked(rng, batch_of(trainer, rows))
    drawn = np.where(mask, targets, rng.integers(0, size, targets.shape))

    def replaced(batch):
        return tokens, drawn, mask

    noise = measured(trained(make, [rows], lambda batch: (tokens, targets, mask)), values)
    same_update("INV-04", noise, trained(make, [rows], replaced)(values), dtype, "with other masked targets")
    half = mask & (np.cumsum(mask.reshape(-1)).reshape(mask.shape) % 2 == 1)
    masks = [m for m in (mask, half, mask & ~half) if m.any()]
    counts = [int(m.sum()) for m in masks[1:]]
    found = [
        measured(losses(make, rows, changed=lambda b, m=m: (tokens, targets, m)), values).losses
        for m in masks
    ]
    parts = zip(counts, found[1:], strict=True)
    value, bound = (sum(n * float(x[0]) for n, x in pairs) / sum(counts) for pairs in _columns(parts))
    within("INV-04", found[0].value[0], Bounded(np.array(value), found[0].bound[0] + bound), dtype)


def _columns(parts):
    """Pairs of a count and the values, and of a count and the bounds."""
    pairs = list(parts)
    return [(n, x.value) for n, x in pairs], [(n, x.bound) for n, x in pairs]


@checks("INV-05", seed=run_seeds, rows=unequal_rows(3, 4), data=st.data())
def test_the_order_of_the_rows_changes_nothing(subject, seed, rows, data):
    make, dtype = maker(subject, seed)
    values = weights(make())
    shuffled = data.draw(st.permutations(rows))
    noise = measured(trained(make, [rows]), values)
    same_update("INV-05", noise, trained(make, [shuffled])(values), dtype, "rows in another order")


# ---- causality


@checks("INV-06", seed=run_seeds, rows=equal_rows(2, 3), rng=generators)
def test_no_prediction_depends_on_a_later_token(subject, seed, rows, rng):
    """Other tokens after position t: the loss of the predictions up to t stays, and so do the logits if offered."""
    make, dtype = maker(subject, seed)
    trainer = make()
    size = vocab(trainer)
    tokens, targets, mask = batch_of(trainer, rows)
    t = int(rng.integers(0, tokens.shape[1]))
    early = mask & (np.arange(tokens.shape[1]) <= t)
    later = tokens.copy()
    later[:, t + 1 :] = rng.integers(0, size, later[:, t + 1 :].shape)

    def run(inputs):
        def outcome(values):
            trainer = make()
            put(trainer, values)
            shown = {"logits": trainer.logits(inputs)[:, : t + 1]} if has(trainer, "logits") else {}
            return Outcome([float(trainer.loss((inputs, targets, early)))], shown)

        return outcome

    values = weights(trainer)
    noise = measured(run(tokens), values)
    what = f"with other tokens after position {t} of {tokens.shape[1]}"
    same_update("INV-06", noise, run(later)(values), dtype, what)


# ---- what may not disturb a run


@checks("INV-14", seed=run_seeds, run=runs)
def test_a_run_is_a_function_of_its_seed(subject, seed, run):
    make, _ = noisy(subject, seed)
    found = []
    for _ in range(2):
        trainer = make()
        found.append(one_run(trainer, [batch_of(trainer, rows) for rows in run]))
    same_run("INV-14", found[1], found[0], "the same settings and batches twice")


@checks("INV-07", seed=run_seeds, run=runs)
def test_evaluation_changes_nothing(subject, seed, run):
    """A run that evaluates before each update is, bit for bit, the run that never does."""
    make, _ = noisy(subject, seed)
    plain = make()
    wanted = one_run(plain, [batch_of(plain, rows) for rows in run])
    trainer, records = make(), []
    batches = [batch_of(trainer, rows) for rows in run]
    for batch in batches:
        before = trainer.parameters()
        first, again = (np.float64(trainer.loss(batches[0])) for _ in range(2))
        same_bytes("INV-07", again, first, "the loss of the same batch, asked twice")
        if has(trainer, "evaluate"):
            trainer.evaluate(batches)
        if has(trainer, "gradients"):
            trainer.gradients(batch)
        for name, x in trainer.parameters().items():
            same_bytes("INV-07", x, before[name], f"after evaluation: {name}")
        records += trainer.train([batch], 1)
    same_run("INV-07", (records, trainer.parameters()), wanted, "with and without evaluation")


@checks("INV-08", seed=run_seeds, run=runs, cut=st.integers(0, 3))
def test_a_run_goes_on_from_its_checkpoint(subject, seed, run, cut):
    """Saved in the middle and loaded into a new trainer, which had begun to train on something else."""
    make, _ = noisy(subject, seed)
    original = make()
    offers(original, "save", "load")
    cut = min(cut, len(run) - 1)
    batches = [batch_of(original, rows) for rows in run]
    one_run(original, batches[:cut])
    with temporary_folder() as folder:
        path = str(Path(folder) / "checkpoint")
        original.save(path)
        before = np.float64(original.loss(batches[0]))
        wanted = one_run(original, batches[cut:])
        other = make()
        one_run(other, batches[:1])
        for number in range(2):
            other.load(path)
            what = f"loaded {'again ' * number}after {cut} of {len(run)} updates"
            same_bytes("INV-08", np.float64(other.loss(batches[0])), before, f"{what}: loss")
            same_run("INV-08", one_run(other, batches[cut:]), wanted, what)


@checks("INV-16", seed=run_seeds, run=runs)
def test_what_was_handed_out_stays_as_it_was(subject, seed, run):
    """Records, parameters, gradients and moments, after training, evaluating and loading."""
    make, _ = noisy(subject, seed)
    trainer = make()
    batches = [batch_of(trainer, rows) for rows in run]
    given = {"the records": trainer.train(batches[:1], 1), "the parameters": trainer.parameters()}
    if has(trainer, "gradients"):
        given["the gradients"] = trainer.gradients(batches[0])
    if has(trainer, "moments"):
        given["the moments"] = trainer.moments()
    kept = copy.deepcopy(given)
    trainer.loss(batches[0])
    if has(trainer, "evaluate"):
        trainer.evaluate(batches)
    trainer.train(batches[1:], 1)
    put(trainer, free(trainer, {name: x + 1 for name, x in trainer.parameters().items()}))
    for what, x in given.items():
        holds("INV-16", same(x, kept[what]), f"{what} that were handed out have changed since")


# ---- tied weights, recomputation


@checks("INV-10", seed=run_seeds, run=runs)
def test_tied_weights_stay_tied(subject, seed, run):
    """After training, after new values, and after loading, in the trainer that saved and in a new one."""
    make, _ = maker(subject, seed)
    trainer = make()
    offers(trainer, "tied")
    batches = [batch_of(trainer, rows) for rows in run]
    tied_in(trainer, "at the start")
    one_run(trainer, batches)
    tied_in(trainer, "after training")
    put(trainer, weights(trainer))
    one_run(trainer, batches[:1])
    tied_in(trainer, "trained on after set_parameters")
    if not (has(trainer, "save") and has(trainer, "load")):
        return
    with temporary_folder() as folder:
        path = str(Path(folder) / "checkpoint")
        trainer.save(path)
        for other, whose in ((trainer, "the trainer that saved"), (make(), "a new trainer")):
            other.load(path)
            tied_in(other, f"loaded into {whose}")
            one_run(other, batches[:1])
            tied_in(other, f"loaded into {whose} and trained on")


def tied_in(trainer, what):
    """Names that are one tensor show the same bytes."""
    shown = trainer.parameters()
    for first, *others in groups(trainer):
        for name in others:
            same_bytes("INV-10", shown[name], shown[first], f"{what}: {name}, which is {first}")


@checks("INV-11", seed=run_seeds, rows=equal_rows(2, 3))
def test_recomputation_changes_nothing(subject, seed, rows):
    """Two updates with dropout, whose mask must be the same when the activations are computed again."""
    make, dtype = noisy(subject, seed)
    trainer = make()
    heeds(trainer, "recompute")
    values = weights(trainer)
    noise = measured(trained(make, [rows]), values)
    again, _ = noisy(subject, seed, recompute=True)
    same_update("INV-11", noise, trained(again, [rows])(values), dtype, "with recomputation")
