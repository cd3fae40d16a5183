"""One update replayed: what it must leave, by the oracles, from the checkpoint before it.

The model's gradient has a probable bound (reference/monte_carlo.py). From a single draw the deviation of one entry is
not well known, so every entry of a row gets the largest one seen in that row: the largest of 64 draws is below their
common deviation with a chance of 2e-11. From the gradient on everything is short, so worst cases are added up
(reference/running_error.py): the mean of the loss, the global norm, clipping, both moments, the step. Where a gradient
is nearly nothing the last division is ill-conditioned; the bound finds that by itself, for it is carried through the
same formula.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.judge import scoring
from gates.subject.run_directory import RunDirectory
from reference import bounds, clipping, data, dropout, gradients, loss, model, optimizer, schedule
from reference.arithmetic import DOUBLE, unit_roundoff
from reference.bounds import Bounded, Simulated
from reference.running_error import RunningErrorArray

DRAWS = 1  # of each kind
NAMES = tuple(model.parameter_shapes(scoring.CONFIG))
DECAYED = dict(zip(NAMES, optimizer.decays(list(NAMES)), strict=True))

Tensors = Mapping[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Gradient = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What a configuration file says: the names and units of the `config.toml` in a run directory."""

    seed: int
    dtype: str
    steps: int
    batch_size: int
    dropout: float
    eval_every: int
    checkpoint_every: int
    optimizer: Mapping[str, float]

    @classmethod
    def read(cls, text: str) -> "Settings":
        """GateError naming what is missing."""
        try:
            said = tomllib.loads(text)
            return cls(
                int(said["seed"]),
                str(said["dtype"]),
                int(said["steps"]),
                int(said["batch_size"]),
                float(said["dropout"]),
                int(said["eval_every"]),
                int(said["checkpoint_every"]),
                {name: float(value) for name, value in said["optimizer"].items()},
            )
        except (KeyError, ValueError, tomllib.TOMLDecodeError) as error:
            raise GateError(f"run directory: config.toml: {error!r}") from None

    def rate(self, update: int) -> float:
        """Learning rate of an update, counted from 1."""
        o = self.optimizer
        return schedule.learning_rate(
            update - 1,
            peak=o["peak_lr"],
            floor=o["min_lr"],
            warmup=int(o["warmup_steps"]),
            total=self.steps,
        )

    @property
    def rate_bound(self) -> float:
        return bounds.learning_rate(peak=self.optimizer["peak_lr"], floor=self.optimizer["min_lr"])


@dataclass(frozen=True)
class Course:
    """The settings of a run and the training sequences they apply to: everything that a course of updates follows."""

    settings: Settings
    sequences: Sequence[list[int]]

    def order(self) -> Iterator[tuple[int, np.ndarray]]:
        """(epoch, indices) of each update, for ever."""
        return data.batches(len(self.sequences), self.settings.batch_size, self.settings.seed)

    @cached_property
    def batches(self) -> list[tuple[int, Batch]]:
        """(epoch, batch) of each update, and of one more."""
        return [
            (epoch, data.make_batch([self.sequences[i] for i in indices]))
            for epoch, indices in islice(self.order(), self.settings.steps + 1)
        ]


@dataclass(frozen=True)
class State:
    """Weights and moments of a checkpoint, float64, and the dtype they were stored in."""

    weights: Tensors
    m: Tensors
    v: Tensors
    dtype: Any

    @classmethod
    def read(cls, run: RunDirectory, step: int) -> "State":
        """GateError if there is no such checkpoint, or if a tensor is missing or not finite."""
        folder = run.checkpoints().get(step)
        if folder is None:
            raise GateError(f"run directory: no checkpoint of step {step}, though checkpoint_every is 1")
        weights = run.tensors(f"{folder}/weights.safetensors")
        moments = run.tensors(f"{folder}/optimizer.safetensors")
        m, v = (
            scoring.as_float64({name: moments.get(f"{kind}.{name}", np.empty(0)) for name in NAMES})
            for kind in "mv"
        )
        return cls(scoring.as_float64(weights), m, v, weights["E"].dtype)


class Law:
    """The formula of an update, a method for each part of it, so that a mistake is a small override (mistakes.py).

    Updates are counted from 1. Every method runs on plain arrays and on those that carry an error bound.
    """

    says = ""

    def batch(self, course: Course, update: int) -> Batch:
        return course.batches[update - 1][1]

    def drop(self, settings: Settings, update: int) -> model.Dropout:
        return masks(settings, update - 1)

    def gradient(self, found: Gradient, before: State, update: int, o: Mapping[str, float]) -> Gradient:
        return found

    def clip(self, found: list[Any], limit: float) -> list[Any]:
        return clipping.clip_by_global_norm(found, limit)[0]

    def moments(self, before: State, name: str) -> tuple[Any, Any]:
        return before.m[name], before.v[name]

    def rate(self, settings: Settings, update: int) -> float:
        return settings.rate(update)

    def decays(self, name: str) -> bool:
        return DECAYED[name]

    def step(self, p: Any, g: Any, m: Any, v: Any, *, t: int, lr: Any, wd: Any, o: Mapping[str, Any]) -> Any:
        """(p, m, v) of one tensor."""
        scalars = {name: o[name] for name in ("beta1", "beta2", "eps")}
        return optimizer.adamw_step(p, g, m, v, t=t, lr=lr, weight_decay=wd, **scalars)


@dataclass(frozen=True)
class After:
    """What an update leaves: `log` its numbers in the log's line, then weights and moments by name."""

    log: Mapping[str, Any]
    weights: Mapping[str, Any]
    m: Mapping[str, Any]
    v: Mapping[str, Any]


def replay(course: Course, update: int, before: State, law: Law | None = None) -> After:
    """Update number `update` from the state that the one before it has left, as `Bounded` arrays."""
    law = law or Law()
    batch, drop = law.batch(course, update), law.drop(course.settings, update)
    simulated = bounds.simulate(_nll_and_gradients, before.weights, *batch, drop, draws=DRAWS)
    found = _after(law, course, update, before, batch, pooled(simulated, before.dtype), _exact)
    exactly = {"epoch": course.batches[update - 1][0], "tokens": int(batch[2].sum())}
    log = {name: Bounded(np.asarray(float(x)), np.zeros(())) for name, x in exactly.items()}
    return After(log | _bounded(found.log), *(_bounded(part) for part in (found.weights, found.m, found.v)))


def behave(course: Course, update: int, before: State, law: Law, differentiated: Any = None) -> After:
    """The same in plain fp64, for a law with a mistake in it. `differentiated` saves the longest part of it."""
    found = differentiated or differentiate(course, update, before, law)
    batch = law.batch(course, update)
    return _after(law, course, update, before, batch, found, lambda x, unit, error=0.0: x)


def differentiate(course: Course, update: int, before: State, law: Law) -> tuple[Any, Gradient]:
    """-log p and the gradient of the update's batch."""
    batch, drop = law.batch(course, update), law.drop(course.settings, update)
    return _nll_and_gradients(before.weights, *batch, drop)


def _nll_and_gradients(
    params: Any, tokens: Any, target: Any, real: Any, key_mask: Any, drop: model.Dropout
) -> tuple[Any, Gradient]:
    """The oracle, of the locked model."""
    return gradients.nll_and_gradients(params, tokens, target, real, key_mask, scoring.CONFIG, drop)


def _after(
    law: Law,
    course: Course,
    update: int,
    before: State,
    batch: Batch,
    found: tuple[Any, Gradient],
    watch: Callable[..., Any],
) -> After:
    """Everything from the gradient on. `watch(x, unit, error)` makes a number one that carries its bound."""
    settings, unit = course.settings, unit_roundoff(before.dtype)
    o = {name: watch(value, DOUBLE) for name, value in settings.optimizer.items()}
    rate = watch(law.rate(settings, update), DOUBLE, settings.rate_bound)
    nll, gradient = found[0], law.gradient(found[1], before, update, settings.optimizer)
    norm = clipping.global_norm(list(gradient.values()))
    clipped = law.clip(list(gradient.values()), settings.optimizer["clip_norm"])
    left = {}
    for name, g in zip(gradient, clipped, strict=True):
        m, v = (watch(x, unit) for x in law.moments(before, name))
        wd = o["weight_decay"] if law.decays(name) else watch(0.0, DOUBLE)
        left[name] = law.step(watch(before.weights[name], unit), g, m, v, t=update, lr=rate, wd=wd, o=o)
    log = {"loss": loss.masked_mean(nll, batch[2]), "grad_norm": norm, "lr": rate}
    return After(log, *({name: three[i] for name, three in left.items()} for i in range(3)))


def masks(settings: Settings, step: int) -> model.Dropout:
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
    value = np.asarray(x, np.float64)
    return RunningErrorArray((value, np.full_like(value, error)), unit)


def _bounded(tree: Any) -> Any:
    return bounds.map_arrays(lambda x: Bounded(x.value, bounds.allowed(x)), tree)
