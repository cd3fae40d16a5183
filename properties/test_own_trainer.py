"""A loop with a model of its own, whatever it is, judged without an oracle by what must hold of any.

Runs are compared bit for bit where the same numbers are computed in the same order, and else within the noise that is
measured on the loop itself (reference/measured_noise.py).
"""

from hypothesis import strategies as st

from fixtures.own_trainer_strategies import equal_rows, unequal_rows
from fixtures.strategies import run_seeds
from properties.assertions import not_offered
from properties.checks import checks
from properties.dtypes import either
from properties.own_trainer_helpers import (
    needs_unequal_rows,
    reduction,
    same_update,
    settings,
    trained,
    weights,
)
from reference.measured_noise import measured


def maker(subject, seed, **others):
    """(a function that makes trainers of these settings, their dtype)."""
    dtype = either(subject, seed)
    return lambda: subject.own_trainer(settings(seed, dtype, **others)), dtype


# ---- a batch, however it is cut


@checks("INV-01", seed=run_seeds, rows=equal_rows(4, 4), parts=st.sampled_from([2, 4]))
def test_micro_batches_make_the_update_of_the_batch(subject, seed, rows, parts):
    """Four rows of one length, in one batch, in two and in four."""
    make, dtype = maker(subject, seed)
    noise = measured(trained(make, [rows]), weights(make()))
    size = len(rows) // parts
    cut = trained(make, [rows[i : i + size] for i in range(0, len(rows), size)])(weights(make()))
    same_update("INV-01", noise, cut, dtype, f"one batch of {len(rows)} rows, and {parts} micro-batches")


@checks("INV-02", seed=run_seeds, rows=unequal_rows(3, 4), first=st.integers(1, 2))
def test_every_predicted_token_weighs_the_same(subject, seed, rows, first):
    """Rows of unequal length, in one batch and in two."""
    make, dtype = maker(subject, seed)
    trainer = make()
    needs_unequal_rows(trainer)
    if reduction(trainer) == "batches":
        not_offered("own_trainer declares that each micro-batch of a window weighs the same")
    noise = measured(trained(make, [rows]), weights(trainer))
    cut = trained(make, [rows[:first], rows[first:]])(weights(trainer))
    what = f"{len(rows)} rows of unequal length in one batch, and in micro-batches of {first} and the rest"
    same_update("INV-02", noise, cut, dtype, what)
