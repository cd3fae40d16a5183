"""One update replayed: what it must leave, by the oracles, from the checkpoint before it.

The model's gradient has a probable bound (reference/monte_carlo.py). From a single draw the deviation of one entry is
not well known, so every entry of a row gets the largest one seen in that row: the largest of 64 draws is below their
common deviation with a chance of 2e-11. From the gradient on everything is short, so worst cases are added up
(reference/running_error.py): the mean of the loss, the global norm, clipping, both moments, the step. Where a gradient
is nearly nothing the last division is ill-conditioned; the bound finds that by itself, for it is carried through the
same formula.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gates.judge import scoring
from gates.judge.run_record import NAMES, Batch, Settings, State, TrainingPlan
from honestloop.conventions import Conventions
from reference import bounds, clipping, dropout, gradients, loss, model, optimizer
from reference.arithmetic import DOUBLE, constant_error, unit_roundoff
from reference.bounds import Bounded, Simulated
from reference.monte_carlo import LAMBDA
from reference.running_error import RunningErrorArray

DRAWS = 1  # of each kind
DECAYED = dict(zip(NAMES, optimizer.decays(list(NAMES)), strict=True))

Gradient = dict[str, Any]


class Law:
    """The formula of an update, a method for each part of it, so that a mistake is a small override of it.

    Updates are counted from 1. Every method runs on plain arrays and on those that carry an error bound.
    """

    says = ""

    def applies(self, plan: TrainingPlan, update: int) -> bool:
        """Whether there is such an update, of this plan."""
        return True

    def batch(self, plan: TrainingPlan, update: int) -> Batch:
        return plan.batches[update - 1][1]

    def drop(self, plan: TrainingPlan, update: int) -> model.Dropout:
        return dropout_of(plan, update)

    def gradient(self, found: Gradient, before: State, update: int, o: Mapping[str, float]) -> Gradient:
        return found

    def clip(self, found: list[Any], norm: Any, limit: float, how: Conventions) -> list[Any]:
        return clipping.clip_by_norm(found, norm, limit, clip=how.clip)

    def moments(self, before: State, name: str) -> tuple[Any, Any]:
        return before.m[name], before.v[name]

    def rate(self, settings: Settings, update: int) -> float:
        return settings.rate(update)

    def decays(self, name: str) -> bool:
        return DECAYED[name]

    def step(self, p: Any, g: Any, m: Any, v: Any, *, t: int, lr: Any, wd: Any, o: Mapping[str, Any]) -> Any:
        """(p, m, v) of one tensor; `o` has the settings, and how decay and epsilon are placed."""
        scalars = {name: o[name] for name in ("beta1", "beta2", "eps", "decay", "eps_place")}
        return optimizer.adamw_step(p, g, m, v, t=t, lr=lr, weight_decay=wd, **scalars)


@dataclass(frozen=True)
class After:
    """What an update leaves: `log` its numbers in the log's line, then weights and moments by name."""

    log: Mapping[str, Any]
    weights: Mapping[str, Any]
    m: Mapping[str, Any]
    v: Mapping[str, Any]


def replay(plan: TrainingPlan, update: int, before: State, law: Law | None = None) -> After:
    """Update number `update` from the state that the one before it has left, as `Bounded` arrays."""
    law = law or Law()
    batch, drop = law.batch(plan, update), law.drop(plan, update)
    simulated = bounds.simulate(_nll_and_gradients, before.weights, *batch, drop, draws=DRAWS)
    found = _after(law, plan, update, before, batch, pooled(simulated, before.dtype), _exact)
    exactly = {"epoch": plan.batches[update - 1][0], "tokens": int(batch[2].sum())}
    log = {name: Bounded(np.asarray(float(x)), np.zeros(())) for name, x in exactly.items()}
    return After(log | _bounded(found.log), *(_bounded(part) for part in (found.weights, found.m, found.v)))


def replay_plainly(
    plan: TrainingPlan, update: int, before: State, law: Law, differentiated: Any = None
) -> After:
    """The same in plain fp64, for a law with a mistake in it. `differentiated` saves the longest part of it."""
    found = differentiated or differentiate(plan, update, before, law)
    batch = law.batch(plan, update)
    return _after(law, plan, update, before, batch, found, lambda x, unit, error=0.0: x)


def differentiate(plan: TrainingPlan, update: int, before: State, law: Law) -> tuple[Any, Gradient]:
    """-log p and the gradient of the update's batch."""
    batch, drop = law.batch(plan, update), law.drop(plan, update)
    return _nll_and_gradients(before.weights, *batch, drop)


def _nll_and_gradients(
    params: Any, tokens: Any, target: Any, real: Any, key_mask: Any, drop: model.Dropout
) -> tuple[Any, Gradient]:
    """The oracle, of the locked model."""
    return gradients.nll_and_gradients(params, tokens, target, real, key_mask, scoring.CONFIG, drop)


def _after(
    law: Law,
    plan: TrainingPlan,
    update: int,
    before: State,
    batch: Batch,
    found: tuple[Any, Gradient],
    bounded: Callable[..., Any],
) -> After:
    """Everything from the gradient on. `bounded(x, unit, error)` makes a number one that carries its bound."""
    settings, unit, how = plan.settings, unit_roundoff(before.dtype), plan.declared.conventions

    def scalar(x: float, error: float = 0.0) -> Any:
        if how.scalars == "double":
            return bounded(x, DOUBLE, error)
        return bounded(x, unit, error + constant_error(x, unit))

    o: dict[str, Any] = {name: scalar(value) for name, value in settings.optimizer.items()} | how.adamw
    rate = scalar(law.rate(settings, update), settings.rate_bound)
    nll, gradient = found[0], law.gradient(found[1], before, update, settings.optimizer)
    norm = clipping.global_norm(list(gradient.values()))
    if how.norm == "dtype":
        norm = bounded(norm, unit, _added_up_in(unit, gradient))
    clipped = law.clip(list(gradient.values()), norm, settings.optimizer["clip_norm"], how)
    left = {}
    for name, g in zip(gradient, clipped, strict=True):
        m, v = (bounded(x, unit) for x in law.moments(before, name))
        wd = o["weight_decay"] if law.decays(name) else scalar(0.0)
        left[name] = law.step(bounded(before.weights[name], unit), g, m, v, t=update, lr=rate, wd=wd, o=o)
    log = {"loss": loss.masked_mean(nll, batch[2]), "grad_norm": norm, "lr": rate}
    return After(log, *({name: three[i] for name, three in left.items()} for i in range(3)))


def _added_up_in(unit: float, gradient: Gradient) -> float:
    """Probable relative error of a norm whose n squares are added up with this unit roundoff, in any order.

    Each of the n sums is at most the total and is rounded by at most `unit` of it, independently: the total deviates
    by at most sqrt(n) units, its root by half of that (Higham, Mary, "A new approach to probabilistic rounding error
    analysis", 2019).
    """
    return 0.5 * LAMBDA * unit * math.sqrt(sum(g.size for g in gradient.values()))


def dropout_of(plan: TrainingPlan, update: int) -> model.Dropout:
    """Dropout of an update, counted from 1: the masks of the specification, or those that are declared."""
    p = plan.settings.dropout
    if not p or not plan.declared.own_generator:
        return dropout_of_step(plan.settings, update - 1)
    masks = plan.masks(update)
    return lambda x, site: np.where(masks[site], x / (1.0 - p), 0.0)


def dropout_of_step(settings: Settings, step: int) -> model.Dropout:
    """Dropout of a step, counted from 0; each mask is made once."""
    p, made = settings.dropout, dict[int, np.ndarray]()

    def drop(x: Any, site: int) -> Any:
        if site not in made:
            made[site] = dropout.kept(
                x.shape, p, seed=settings.seed, step=step, site=site, context=int(scoring.CONFIG["context"])
            )
        return np.where(made[site], x / (1.0 - p), 0.0)

    return drop if p else model.no_dropout


def pooled(simulated: Any, dtype: Any) -> Any:
    """Arrays that carry their error bound: for all entries of a row that of its most uncertain one."""

    def pool(x: Simulated) -> RunningErrorArray:
        deviation = np.broadcast_to(x.deviation.max(axis=-1, keepdims=True), x.deviation.shape)
        found = Simulated(x.value, deviation).bounded(dtype)
        return RunningErrorArray((found.value, found.bound), unit_roundoff(dtype))

    return bounds.map_arrays(pool, simulated)


def _exact(x: Any, unit: float, error: float = 0.0) -> RunningErrorArray:
    """With this absolute error; what carries a bound already gets a larger one, by a share of its value."""
    if isinstance(x, RunningErrorArray):
        return RunningErrorArray((x.value, x.error + error * (np.abs(x.value) + x.error)), x.unit)
    value = np.asarray(x, np.float64)
    return RunningErrorArray((value, np.full_like(value, error)), unit)


def _bounded(tree: Any) -> Any:
    return bounds.map_arrays(lambda x: Bounded(x.value, bounds.allowed(x)), tree)
