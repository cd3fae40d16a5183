"""The training loop without its data iterator: four of the five state machines, and batches from the caller."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from impl import evaluate
from impl.array_layout import plain
from impl.config import OptimizerConfig
from impl.data.iterator import Batch
from impl.model.bigram import BigramModel
from impl.model.dropout import Dropout
from impl.model.language_model import LanguageModel
from impl.optim.optimizer import AdamW
from impl.optim.schedule import Schedule
from impl.rng import ControlRNG
from impl.run import checkpoint
from impl.run.checkpoint import Expected, StateMachine
from impl.update import Update, update

Array = np.ndarray[Any, np.dtype[Any]]
MicroBatch = tuple[Array, Array, Array]


class Trainer:
    """Updates of any language model.

    `settings` has seed, dropout, max_norm, the optimizer's beta1, beta2, eps and weight_decay, and the schedule's peak,
    floor, warmup and total.
    """

    def __init__(self, model: LanguageModel, settings: Mapping[str, Any]) -> None:
        self._dropout, self._clip_norm = settings["dropout"], settings["max_norm"]
        schedule = {name: settings[name] for name in ("peak", "floor", "warmup", "total")}
        adam = {name: settings[name] for name in ("beta1", "beta2", "eps", "weight_decay")}
        self._model = model
        self._optimizer = AdamW(model.shapes, model.dtype, OptimizerConfig(**adam))
        self._scheduler = Schedule(**schedule)
        self._control = ControlRNG(settings["seed"])

    def update(self, window: Sequence[Batch]) -> Update:
        """One update from the micro-batches of `window`."""
        dropout = Dropout(self._dropout, *self._control.next_step())
        return update(self._model, self._optimizer, self._scheduler, dropout, window, self._clip_norm)

    def save(self, path: str) -> None:
        """Save the state as a folder; it replaces what was saved there before."""
        with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
            new, old = Path(folder) / "new", Path(folder) / "old"
            checkpoint.save(new, "", self._scheduler.step, self._machines(), {}, None)
            if Path(path).exists():
                Path(path).rename(old)
            new.rename(path)

    def load(self, path: str) -> None:
        """Restore a state that `save` wrote."""
        (saved,) = checkpoint.by_step(Path(path))
        states = checkpoint.load(saved, Expected.of("", self._machines())).machines
        for name, machine in self._machines().items():
            machine.restore(states[name])

    def _machines(self) -> dict[str, StateMachine]:
        return {
            "model": self._model,
            "optimizer": self._optimizer,
            "scheduler": self._scheduler,
            "control": self._control,
        }


class BigramTrainer(Trainer):
    """The `trainer` of the protocol (honestloop/protocol.py): it trains the bigram model with parameters E, W and b.

    A micro-batch is (input, target, loss_mask), all [B, T].
    """

    def __init__(self, params: Mapping[str, Array], settings: Mapping[str, Any]) -> None:
        # The optimizer decays what is called E or W_*.
        E, W, b = (plain(params[name]) for name in ("E", "W", "b"))
        super().__init__(BigramModel({"E": E, "W_out": W, "b": b}), settings)

    def train(self, micro_batches: Sequence[MicroBatch], accumulate: int) -> list[dict[str, Any]]:
        """One update for every `accumulate` micro-batches, in order, and one for those left over."""
        batches = [_batch(*micro_batch) for micro_batch in micro_batches]
        windows = [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]
        return [vars(self.update(window)) for window in windows]

    def parameters(self) -> dict[str, Array]:
        """A copy of E [V, D], W [D, V] and b [V]."""
        E, W, b = self._model.state().values()
        return {"E": E, "W": W, "b": b}

    def evaluate(self, batches: Sequence[MicroBatch]) -> float:
        """Mean loss in nats of all predicted tokens, without dropout."""
        score = evaluate.score(self._model, [_batch(*batch) for batch in batches])
        return score.nll_sum / max(score.tokens, 1)


def _batch(input: Array, target: Array, loss_mask: Array) -> Batch:
    return Batch(plain(input), plain(target), plain(loss_mask), np.ones(loss_mask.shape, np.bool_))
