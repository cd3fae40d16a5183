"""What the properties of a loop with its own model share: its settings, its batches, its weights as free numbers."""

import numpy as np

from fixtures.own_trainer_strategies import token_batch
from honestloop.guard import has
from properties.assertions import holds, not_offered, within
from reference.bounds import compare
from reference.measured_noise import Outcome, outcome

REDUCTIONS = "tokens", "batches"
"""What `reduction` may declare: every predicted token of a window weighs the same, or every batch of it does."""


def settings(seed, dtype, **others):
    """The settings of a loop: without dropout and recomputation, unless asked."""
    return {"seed": seed, "dtype": np.dtype(dtype).name, "dropout": 0.0, "recompute": False} | others


def batch_of(trainer, rows):
    """A batch of these rows: of tokens if the trainer declares their number, else of the trainer's own making."""
    rows = fitting(trainer, rows)
    if has(trainer, "batch") and not has(trainer, "vocab"):
        return trainer.batch(rows)
    return token_batch(vocab(trainer), rows)


def vocab(trainer):
    """The number of tokens of a trainer that reads batches of tokens."""
    if not has(trainer, "vocab"):
        not_offered("own_trainer makes its own batches (batch), and declares no vocab")
    return int(trainer.vocab)


def fitting(trainer, rows, spare=0):
    """The rows, none longer than the trainer's `context`; all of that length if it declares `full`.

    `spare`: columns of the context that are left for something else.
    """
    if not has(trainer, "context"):
        return list(rows)
    longest = max(int(trainer.context) - spare, 1)
    full = has(trainer, "full") and trainer.full
    return [(seed, longest if full else min(length, longest)) for seed, length in rows]


def needs_unequal_rows(trainer):
    """Not offered by a loop whose rows are all full."""
    if has(trainer, "full") and trainer.full:
        not_offered("own_trainer declares full rows")


def reduction(trainer):
    """What the loop's mean is over: one of REDUCTIONS."""
    found = trainer.reduction if has(trainer, "reduction") else "tokens"
    if found not in REDUCTIONS:
        raise ValueError(f"own_trainer declares the reduction {found!r}, none of {', '.join(REDUCTIONS)}")
    return found


def heeds(trainer, setting):
    """Not offered by a trainer that does not name the setting in `heeds`."""
    if not (has(trainer, "heeds") and setting in trainer.heeds):
        not_offered(f"own_trainer does not name {setting} in heeds")


def offers(trainer, *names):
    """Not offered by a trainer that lacks one of these."""
    for name in names:
        if not has(trainer, name):
            not_offered(f"own_trainer without {name}")


def groups(trainer):
    """Names that are one tensor, in groups."""
    return [tuple(group) for group in trainer.tied] if has(trainer, "tied") else []


def free(trainer, tensors):
    """The tensors without the second names of those that are tied."""
    second = {name for group in groups(trainer) for name in group[1:]}
    return {name: np.asarray(x) for name, x in tensors.items() if name not in second}


def put(trainer, tensors):
    """Set these weights, the second names of tied ones with them."""
    whole = dict(tensors)
    for first, *others in groups(trainer):
        whole |= dict.fromkeys(others, tensors[first])
    trainer.set_parameters(whole)


def weights(trainer):
    """The weights, each tensor once."""
    return free(trainer, trainer.parameters())


def trained(make, window, changed=lambda batch: batch):
    """A function of weights: the outcome of one update on a window of batches, each by its rows.

    The trainer is new, and has these weights; `changed` is applied to every batch.
    """

    def run(values):
        trainer = make()
        put(trainer, values)
        batches = [changed(batch_of(trainer, rows)) for rows in window]
        return outcome(trainer.train(batches, len(batches)), weights(trainer))

    return run


def losses(make, *all_rows, changed=lambda batch: batch):
    """A function of weights: the losses of these batches, each by its rows."""

    def run(values):
        trainer = make()
        put(trainer, values)
        found = [float(trainer.loss(changed(batch_of(trainer, rows)))) for rows in all_rows]
        return Outcome(found, {})

    return run


def same_update(rule, noise, got, dtype, what):
    """Another run has the losses and the tensors of this one, as far as rounding allows."""
    within(rule, np.array(got.losses, np.float64), noise.losses, dtype)
    near(rule, noise, got.tensors, what)


def near(rule, noise, tensors, what):
    """Every tensor within the measured noise of its norm."""
    for name, distance in noise.apart(tensors).items():
        agreement = compare(distance, 0.0, noise.norms[name])
        found = f"{what}: {name} is {distance:.3e} away, {agreement.ratio:.1e} x the bound"
        holds(rule, agreement.within, found)
