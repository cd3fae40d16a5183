"""What a run was told, and what it left of each update: settings, batches, states, log lines, read from its files."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.judge import scoring
from gates.subject.run_directory import RunDirectory
from gates.subject.stepwise_runs import ConfiguredRun
from reference import bounds, data, model, schedule

NAMES = tuple(model.parameter_shapes(scoring.CONFIG))

Tensors = Mapping[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


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
        peak, floor, warmup = o["peak_lr"], o["min_lr"], int(o["warmup_steps"])
        return schedule.learning_rate(update - 1, peak=peak, floor=floor, warmup=warmup, total=self.steps)

    @property
    def rate_bound(self) -> float:
        return bounds.learning_rate(peak=self.optimizer["peak_lr"], floor=self.optimizer["min_lr"])


@dataclass(frozen=True)
class TrainingPlan:
    """The settings of a run and the sequences they apply to: everything that its updates follow from."""

    settings: Settings
    sequences: Sequence[list[int]]
    val: Sequence[list[int]] = ()

    @classmethod
    @cache
    def of(cls, followed: ConfiguredRun) -> "TrainingPlan":
        """What a run was told to follow."""
        scorer = scoring.ReferenceScorer(followed.rows["train"])
        return cls(Settings.read(followed.config), scorer.train, scorer.sequences(followed.rows["val"]))

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


def state(followed: ConfiguredRun, step: int) -> State:
    """What a followed run has left of a step."""
    return State.read(followed.begun if step == 0 and followed.begun else followed.run, step)


def logged(run: RunDirectory, update: int) -> Mapping[str, Any]:
    """The line of an update, by its place; {} if the log has none there."""
    return run.log[update - 1] if 0 < update <= len(run.log) else {}
