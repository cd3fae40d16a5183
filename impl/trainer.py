"""The loop on the smallest language model there is, for `properties/`: they check the same update as training makes.

logits = dropout(E[input]) @ W + b
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from impl.config import OptimizerConfig
from impl.data.iterator import Batch
from impl.kernels import elementwise
from impl.kernels.dropout import drop
from impl.kernels.gemm import gemm
from impl.kernels.loss import cross_entropy
from impl.kernels.reduce import sum_squares
from impl.model.dropout import Dropout
from impl.model.parameters import named_views
from impl.optim.optimizer import AdamW
from impl.optim.schedule import Schedule
from impl.rng import ControlRNG
from impl.run import checkpoint
from impl.run.checkpoint import Expected, StateMachine
from impl.update import update

Array = np.ndarray[Any, np.dtype[Any]]
MicroBatch = tuple[Array, Array, Array]

CONTEXT = 4096
"""Longest row of a window: what numbers the entries of a dropout mask."""
NAMES = {"E": "E", "W": "W_out", "b": "b"}
"""The protocol's names, and ours, which say what decays."""


class SmallModel:
    """E [V, D], W_out [D, V] and b [V], with the interface of MiniGPT."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.dtype = parameters["E"].dtype
        self.shapes = {ours: parameters[theirs].shape for theirs, ours in NAMES.items()}
        size = sum(parameters[name].size for name in NAMES)
        self.flat_parameters, self.flat_gradients = np.zeros((2, size), self.dtype)
        self.parameters = named_views(self.flat_parameters, self.shapes)
        self.gradients = named_views(self.flat_gradients, self.shapes)
        self.restore({ours: parameters[theirs] for theirs, ours in NAMES.items()})

    def state(self) -> dict[str, Array]:
        return {name: value.copy() for name, value in self.parameters.items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        for name, value in self.parameters.items():
            value[...] = state[name]

    def zero_gradients(self) -> None:
        self.flat_gradients[:] = 0.0

    def accumulate(self, batch: Batch, dropout: Dropout, tokens: int, nll: float = 0.0) -> float:
        """Add the gradient of this batch's part of the mean over `tokens`; returns `nll` plus its losses."""
        rows, length = batch.input.reshape(-1), batch.input.shape[1]
        x = np.empty((rows.size, self.parameters["E"].shape[1]), self.dtype)
        elementwise.gather_rows(self.parameters["E"], rows, x)
        keep = self._drop(x, length, dropout)
        losses, dlogits = self._loss(x, batch, 1.0 / max(tokens, 1))
        gemm(x.T, dlogits, self.gradients["W_out"], True)
        elementwise.add_rows(dlogits, self.gradients["b"])
        dx = np.empty_like(x)
        gemm(dlogits, np.ascontiguousarray(self.parameters["W_out"].T), dx, False)
        if keep is not None:
            drop(dx, keep, dropout.scale(self.dtype))
        elementwise.scatter_add_rows(dx, rows, self.gradients["E"])
        return float(elementwise.sum_onto(nll, losses))

    def finish_gradients(self) -> float:
        """Every gradient is one sum already; returns the sum of their squares."""
        return float(sum_squares(self.flat_gradients))

    def nll(self, batch: Batch, nll: float = 0.0) -> float:
        """`nll` plus the negative log-likelihoods, in nats, of the predicted tokens; no dropout."""
        x = np.empty((batch.input.size, self.parameters["E"].shape[1]), self.dtype)
        elementwise.gather_rows(self.parameters["E"], batch.input.reshape(-1), x)
        return float(elementwise.sum_onto(nll, self._loss(x, batch, 0.0)[0]))

    def _loss(self, x: Array, batch: Batch, weight: float) -> tuple[Array, Array]:
        """(negative log-likelihoods [B * T], weight times the gradient of their sum to the logits [B * T, V])."""
        logits, dlogits = np.empty((2, len(x), self.parameters["b"].size), self.dtype)
        elementwise.fill_rows(self.parameters["b"], logits)
        gemm(x, self.parameters["W_out"], logits, True)
        targets, mask = batch.target.reshape(-1), batch.loss_mask.reshape(-1)
        nll = np.empty(len(x))
        cross_entropy(logits, targets, mask, self.dtype.type(weight), nll, dlogits)
        return nll, dlogits

    def _drop(self, x: Array, length: int, dropout: Dropout) -> Array | None:
        if dropout.rate == 0.0:
            return None
        keep = np.empty(x.shape, np.bool_)
        dropout.keep(0, length, CONTEXT, keep)
        drop(x, keep, dropout.scale(self.dtype))
        return keep


class Trainer:
    """Four of the five state machines around `update`; the batches are handed in."""

    def __init__(self, params: Mapping[str, Array], settings: Mapping[str, Any]) -> None:
        self._dropout, self._clip_norm = settings["dropout"], settings["max_norm"]
        shape = {name: settings[name] for name in ("peak", "floor", "warmup", "total")}
        adam = {name: settings[name] for name in ("beta1", "beta2", "eps", "weight_decay")}
        self._model = SmallModel(params)
        self._optimizer = AdamW(self._model.shapes, self._model.dtype.name, OptimizerConfig(**adam))
        self._scheduler = Schedule(**shape)
        self._control = ControlRNG(settings["seed"])

    def train(self, micro_batches: Sequence[MicroBatch], accumulate: int) -> list[dict[str, Any]]:
        """An update for every `accumulate` micro-batches, in order, and one for those left over."""
        batches = [_batch(*micro_batch) for micro_batch in micro_batches]
        windows = [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]
        return [vars(self._update(window)) for window in windows]

    def _update(self, window: Sequence[Batch]) -> Any:
        dropout = Dropout(self._dropout, *self._control.next_step())
        return update(self._model, self._optimizer, self._scheduler, dropout, window, self._clip_norm)

    def parameters(self) -> dict[str, Array]:
        state = self._model.state()
        return {theirs: state[ours] for theirs, ours in NAMES.items()}

    def evaluate(self, batches: Sequence[MicroBatch]) -> float:
        """Mean loss of every predicted token, without dropout."""
        whole = [_batch(*batch) for batch in batches]
        tokens = sum(batch.tokens for batch in whole)
        nll = 0.0
        for batch in whole:
            nll = self._model.nll(batch, nll)
        return nll / max(tokens, 1)

    def save(self, path: str) -> None:
        """A folder with this state alone; what was saved there before is replaced."""
        with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
            new, old = Path(folder) / "new", Path(folder) / "old"
            checkpoint.save(new, "", self._scheduler.step, self._machines(), {}, None)
            if Path(path).exists():
                Path(path).rename(old)
            new.rename(path)

    def load(self, path: str) -> None:
        (saved,) = Path(path).glob("step-????????")
        expected = Expected("", self._model.shapes, self._model.dtype.name)
        states = checkpoint.load(saved, expected).machines
        for name, machine in self._machines().items():
            machine.restore(states[name])

    def _machines(self) -> dict[str, StateMachine]:
        return {
            "model": self._model,
            "optimizer": self._optimizer,
            "scheduler": self._scheduler,
            "control": self._control,
        }


def _batch(input: Array, target: Array, loss_mask: Array) -> Batch:
    return Batch(input, target, loss_mask, np.ones_like(loss_mask))
