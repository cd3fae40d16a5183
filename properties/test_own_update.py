"""The update of a loop with a model of its own: its gradient is that of its loss, its step that of its moments.

The loss is asked in double precision at weights moved along directions (reference/central_differences.py); the update
is judged from the moments before and after it (reference/recovered_gradient.py, reference/recovered_update.py).
"""

import numpy as np

from fixtures.own_trainer_strategies import equal_rows, runs, unequal_rows
from fixtures.strategies import run_seeds
from honestloop.guard import has
from properties.assertions import holds, not_offered, refuse, within
from properties.checks import checks
from properties.dtypes import either
from properties.own_trainer_helpers import batch_of, free, losses, offers, put, settings, weights
from properties.property_record import current
from reference import recovered_gradient, recovered_update, unclipped_gradient
from reference.arithmetic import DOUBLE
from reference.bounds import Bounded
from reference.central_differences import (
    FLOOR,
    RELATIVE,
    NotInDouble,
    Recovered,
    compare,
    loss_at,
    norm,
    ratio_said,
)
from reference.measured_noise import measured, unit_of

CERTAIN = 100.0
"""A derivative of the loss is certainly not 0 where it is this many bounds away from it."""


def maker(subject, seed):
    """(a function that makes trainers without dropout, their dtype)."""
    dtype = either(subject, seed)
    return lambda: subject.own_trainer(settings(seed, dtype)), dtype


def loss_in_double(subject, seed, rows):
    """A function of many weights: the loss of these rows at each, in double precision."""
    if np.float64 not in subject.conventions.float_types:
        not_offered("a loss in float64")
    trainer = subject.own_trainer(settings(seed, np.float64))
    batch = batch_of(trainer, rows)

    def losses_at(many):
        found = []
        for values in many:
            put(trainer, values)
            found.append(float(trainer.loss(batch)))
        return found

    return losses_at


def wide(tensors):
    """The tensors in float64."""
    return {name: np.asarray(x, np.float64) for name, x in tensors.items()}


def gradient_of_the_loss(subject, seed, rows, at, gradient):
    """The gradient is that of the loss of the rows, at these weights, along every direction that is tried."""
    losses_at, at = loss_in_double(subject, seed, rows), wide(at)
    try:
        noise = loss_at(losses_at, at, gradient).noise
    except NotInDouble as error:
        refuse("INV-09", str(error))
    found = compare(losses_at, at, gradient, noise, seed % 2**32)
    key = "INV-09", "float64" if gradient.unit == DOUBLE else "float32"
    current().margins[key] = max(current().margins.get(key, 0.0), *(c.share for c in found))
    worst = max(found, key=lambda c: c.share)
    ratio = ratio_said(found)
    said = "is not that of the loss" if ratio is None else f"is {ratio:.4g} times that of the loss"
    what = f"the gradient {said}: along {worst.direction}, {worst.said:.9g}, expected {worst.found:.9g}"
    holds("INV-09", worst.share <= 1, f"{what}; {worst.share:.1e} x the derived bound")


@checks("INV-09", seed=run_seeds, rows=unequal_rows(2, 3))
def test_gradients_are_those_of_the_loss(subject, seed, rows):
    make, _ = maker(subject, seed)
    trainer = make()
    offers(trainer, "gradients")
    at = weights(trainer)
    values = free(trainer, trainer.gradients(batch_of(trainer, rows)))
    frozen = set(trainer.frozen) if has(trainer, "frozen") else set()
    holds(
        "INV-09", values.keys() == at.keys() - frozen, f"gradients of {sorted(values)}, not of {sorted(at)}"
    )
    gradient = Recovered(wide(values), {n: np.zeros(x.shape) for n, x in values.items()}, unit_of(at))
    gradient_of_the_loss(subject, seed, rows, at, gradient)


@checks("INV-09", seed=run_seeds, rows=unequal_rows(2, 3))
def test_an_update_uses_the_gradient_of_the_loss(subject, seed, rows):
    """Recovered from the first moments: it is the gradient that is shown, or else the loss's own."""
    make, dtype = maker(subject, seed)
    trainer = make()
    offers(trainer, "moments", "optimizer")
    before, at, batch = trainer.moments(), weights(trainer), batch_of(trainer, rows)
    offered = trainer.gradients(batch) if has(trainer, "gradients") else {}
    record = trainer.train([batch], 1)[0]
    declared = trainer.optimizer
    gradient = unclipped_gradient.unclipped(
        free(trainer, before["m"]),
        free(trainer, trainer.moments()["m"]),
        beta1=declared["beta1"],
        unit=unit_of(at),
        max_norm=declared.get("max_norm"),
        norm=record.get("grad_norm"),
        clip=subject.conventions.clip,
        scalars=subject.conventions.scalars,
    )
    if has(trainer, "gradients"):
        as_offered(gradient, wide(free(trainer, offered)), dtype)
    else:
        gradient_of_the_loss(subject, seed, rows, at, gradient)


def as_offered(gradient, offered, dtype):
    """The recovered gradient is the one that the trainer shows, with the rounding of both backward passes."""
    whole = norm(offered)
    for name, x in gradient.values.items():
        rounding = 2 * gradient.unit * (RELATIVE * norm({name: offered[name]}) + FLOOR * whole)
        bound = gradient.bounds[name] + rounding
        within("INV-09", {name: x}, {name: Bounded(offered[name], bound)}, dtype)


# ---- the step


def form_of(subject, declared):
    """Which AdamW the trainer declares, in the conventions of the subject."""
    adamw = subject.conventions.adamw
    hyper = {name: float(declared[name]) for name in ("beta1", "beta2", "eps")}
    return recovered_update.Form(**hyper, **adamw, scalars=subject.conventions.scalars)  # type: ignore[arg-type]


def decay_of(declared, name):
    """The weight decay of a parameter: one for all, or one for each."""
    decay = declared.get("weight_decay", 0.0)
    return float(decay[name] if isinstance(decay, dict) else decay)


@checks("INV-12", seed=run_seeds, run=runs)
def test_the_step_is_that_of_its_moments(subject, seed, run):
    """Every update: the second moment belongs to the gradient in the first, the weights to both, t counts."""
    make, dtype = maker(subject, seed)
    trainer = make()
    offers(trainer, "moments", "optimizer")
    form = form_of(subject, trainer.optimizer)
    before, p = trainer.moments(), weights(trainer)
    for k, rows in enumerate(run):
        (record,) = trainer.train([batch_of(trainer, rows)], 1)
        after, p1 = trainer.moments(), weights(trainer)
        holds("INV-12", int(after["t"]) == int(before["t"]) + 1, f"update {k}: t is {after['t']}")
        for name, m1 in free(trainer, after["m"]).items():
            m, v = (np.asarray(before[kind].get(name, np.zeros_like(m1))) for kind in "mv")
            v1, lr = np.asarray(after["v"][name]), float(record["lr"])
            g = recovered_gradient.gradient(m, m1, beta1=form.beta1, scalars=form.scalars)
            second = recovered_gradient.second_moment(v, v1, g, beta2=form.beta2, scalars=form.scalars)
            within("INV-12", {f"v of {name}": v1}, {f"v of {name}": second}, dtype)
            tensor = recovered_update.Tensor(p[name], p1[name], m1, v1)
            d = recovered_update.direction(form, int(after["t"]), tensor)
            decay = decay_of(trainer.optimizer, name)
            wanted = recovered_update.expected(form, tensor, d, lr, decay)
            within("INV-12", {name: p1[name]}, {name: wanted}, dtype)
        before, p = after, p1


@checks("INV-13", seed=run_seeds, rows=unequal_rows(2, 3))
def test_the_logged_loss_is_that_before_the_update(subject, seed, rows):
    make, dtype = maker(subject, seed)
    trainer = make()
    noise = measured(losses(make, rows), weights(trainer))
    (record,) = trainer.train([batch_of(trainer, rows)], 1)
    within("INV-13", np.array([float(record["loss"])]), noise.losses, dtype)


@checks("INV-15", seed=run_seeds, rows=equal_rows(2, 3))
def test_every_parameter_is_trained(subject, seed, rows):
    """Three updates move every tensor along which the loss has a slope, unless it is declared as frozen."""
    make, _ = maker(subject, seed)
    trainer = make()
    at = weights(trainer)
    frozen = set(trainer.frozen) if has(trainer, "frozen") else set()
    zero = {name: np.zeros(x.shape) for name, x in at.items()}
    try:
        losses_at = loss_in_double(subject, seed, rows)
        noise = loss_at(losses_at, wide(at), Recovered(zero, zero, unit_of(at))).noise
    except NotInDouble as error:
        refuse("INV-15", str(error))
    slopes = compare(losses_at, wide(at), Recovered(zero, zero, unit_of(at)), noise, seed % 2**32)
    sloped = {c.direction for c in slopes if abs(c.found) > CERTAIN * c.bound}
    trainer.train([batch_of(trainer, rows)] * 3, 1)
    after = weights(trainer)
    still = [n for n in at if n in sloped - frozen and np.array_equal(at[n], after[n])]
    holds("INV-15", not still, f"after three updates {', '.join(still)} is as it was at the start")
