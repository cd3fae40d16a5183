"""What a run was told, and what it left of each update: settings, batches, states, log lines, read from its files."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.judge import scoring
from gates.subject.declarations import SPECIFIED, Declared
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
    schedule: str = "honestloop"
    """A line of the table in reference/schedule.py."""
    accumulate: int = 1
    """Batches an update."""

    @classmethod
    def read(cls, text: str, schedule: str = "honestloop") -> "Settings":
        """GateError naming what is missing, or a setting whose updates are not judged."""
        try:
            said = tomllib.loads(text)
            refuse_unjudged(said)
            return cls(
                _whole(said["seed"]),
                str(said["dtype"]),
                int(said["steps"]),
                int(said["batch_size"]),
                float(said["dropout"]),
                int(said["eval_every"]),
                int(said["checkpoint_every"]),
                {name: float(value) for name, value in said["optimizer"].items()},
                schedule,
                int(said.get("accumulate", 1)),
            )
        except (KeyError, ValueError, tomllib.TOMLDecodeError) as error:
            raise GateError(f"run directory: config.toml: {error!r}") from None

    def rate(self, update: int) -> float:
        """Learning rate of an update, counted from 1. GateError for one that the schedule does not have."""
        o = self.optimizer
        peak, floor, warmup = o["peak_lr"], o["min_lr"], int(o["warmup_steps"])
        if not schedule.defined(update - 1, warmup=warmup, total=self.steps, schedule=self.schedule):
            raise GateError(f"the schedule {self.schedule} has no rate for update {update} of {self.steps}")
        return schedule.learning_rate(
            update - 1, peak=peak, floor=floor, warmup=warmup, total=self.steps, schedule=self.schedule
        )

    @property
    def rate_bound(self) -> float:
        return bounds.learning_rate(peak=self.optimizer["peak_lr"], floor=self.optimizer["min_lr"])


NOT_JUDGED: dict[str, Any] = {
    "leftover": "update",
    "muon.enabled": False,
    "schedule.kind": "cosine",
    "schedule.by": "updates",
    "precision.autocast": "none",
    "precision.loss_scaling": False,
    "precision.stochastic_rounding": False,
    "average.weights": 0.0,
    "evaluation.token_budget": 0,
    "stopping.epochs": 0,
    "stopping.tokens": 0,
    "stopping.seconds": 0.0,
    "stopping.patience": 0,
    "loss.label_smoothing": 0.0,
    "loss.z_loss": 0.0,
    "model.softcap": 0.0,
    "model.window": 0,
}
"""Settings with which an update is another than the one that is replayed here, and the value that is judged."""


def refuse_unjudged(said: Mapping[str, Any]) -> None:
    """GateError if a setting asks for updates that the oracles of the gates do not make."""
    for name, judged in NOT_JUDGED.items():
        value: Any = said
        for key in name.split("."):
            value = value.get(key, judged) if isinstance(value, Mapping) else judged
        if value != judged:
            raise GateError(
                f"not judged: config.toml has {name} = {value!r}, updates are replayed for {judged!r} alone"
            )


def _whole(said: Any) -> int:
    """A seed: a number, or its decimal digits 0 to 9. ValueError for the digits of another script, signs or spaces."""
    if isinstance(said, str) and not re.fullmatch("[0-9]{1,20}", said):
        raise ValueError(f"seed {said[:40]!r} is not written in the digits 0 to 9")
    return int(said)


@dataclass(frozen=True)
class TrainingPlan:
    """The settings of a run and the sequences they apply to: everything that its updates follow from."""

    settings: Settings
    sequences: Sequence[list[int]]
    val: Sequence[list[int]] = ()
    declared: Declared = SPECIFIED
    run: RunDirectory | None = None
    """Where a loop with its own generator says which rows and masks its updates had."""

    @classmethod
    @cache
    def of(cls, followed: ConfiguredRun) -> "TrainingPlan":
        """What a run was told to follow."""
        scorer = scoring.ReferenceScorer(followed.rows["train"])
        settings = Settings.read(followed.config, followed.declared.conventions.schedule)
        val = scorer.sequences(followed.rows["val"])
        return cls(settings, scorer.train, val, followed.declared, followed.run)

    @property
    def epoch_length(self) -> int:
        """Updates of an epoch; the last may have fewer rows."""
        return -(-len(self.sequences) // (self.settings.batch_size * self.settings.accumulate))

    @cached_property
    def rows(self) -> list[tuple[int, Sequence[int]]]:
        """(epoch, indices of the sequences) of each update: of the whole run and one more, or as far as declared.

        GateError for rows that are no list of sequences.
        """
        if not self.declared.own_generator or self.run is None:
            return [(epoch, rows.tolist()) for epoch, rows in islice(self.order(), self.settings.steps + 1)]
        found = []
        for update, rows in enumerate(self.declared.rows(self.run), 1):
            if not is_rows(rows, len(self.sequences)):
                raise GateError(
                    f"rows of update {update}: {str(rows)[:80]} are no list of training sequences"
                )
            found.append(((update - 1) // self.epoch_length, rows))
        return found

    def order(self) -> Iterator[tuple[int, np.ndarray]]:
        """(epoch, indices) of each update, for ever: the batches of a window are one, row after row."""
        rows = self.settings.batch_size * self.settings.accumulate
        return data.batches(len(self.sequences), rows, self.settings.seed)

    @cached_property
    def batches(self) -> list[tuple[int, Batch]]:
        """(epoch, batch) of each update, as far as `rows` goes."""
        return [(epoch, data.make_batch([self.sequences[i] for i in rows])) for epoch, rows in self.rows]

    def masks(self, update: int) -> Mapping[int, np.ndarray]:
        """What dropout is declared to have kept, by site. GateError if it is not of the shape of the batch."""
        assert self.run is not None
        found = self.declared.masks(self.run, update)
        shape = (*self.batches[update - 1][1][0].shape, int(scoring.CONFIG["d_model"]))
        for site in range(1 + 2 * int(scoring.CONFIG["n_layers"])):
            mask = found.get(site, np.empty(0))
            if mask.shape != shape or mask.dtype != np.bool_:
                got = f"{mask.dtype} {list(mask.shape)}"
                raise GateError(
                    f"masks of update {update}: site {site} is {got}, expected bool {list(shape)}"
                )
        return found


def is_rows(said: Any, sequences: int) -> bool:
    """Whether this is a list of indices of so many sequences."""
    return isinstance(said, list) and bool(said) and all(type(i) is int and 0 <= i < sequences for i in said)


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
