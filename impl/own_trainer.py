"""The `own_trainer` of the protocol (honestloop/protocol.py): MiniGPT, in the updates of the loop, but small."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from impl import evaluate
from impl.array_layout import plain
from impl.config import ModelConfig, OptimizerConfig
from impl.data.iterator import Batch
from impl.model.dropout import NO_DROPOUT
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters
from impl.optim.optimizer import decays
from impl.trainer import Trainer

Array = np.ndarray[Any, np.dtype[Any]]
MicroBatch = tuple[Array, Array, Array]
MODEL = ModelConfig(d_model=8, n_heads=2, n_layers=2, d_ff=12, vocab_size=11, context=16)
SPREAD = 15.0
"""Initial weights are this many times larger than those of a run, so that every layer has a say in the loss."""
OPTIMIZER = OptimizerConfig(beta2=0.99, weight_decay=0.1)
SCHEDULE = {"peak": 2e-2, "floor": 1e-3, "warmup": 2, "total": 8}


class OwnTrainer(Trainer):
    """`settings` has seed, dtype and dropout. A micro-batch is (input, target, loss_mask), all [B, T]."""

    vocab, context, heeds = MODEL.vocab_size, MODEL.context, ("dropout",)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        first = initial_parameters(settings["seed"], MODEL)
        whole = {name: SPREAD * x if decays(name) else x + 0.1 for name, x in first.items()}
        dtype = settings["dtype"]
        model = MiniGPT(MODEL, dtype, {name: x.astype(dtype) for name, x in whole.items()})
        hyper = {name: getattr(OPTIMIZER, name) for name in ("beta1", "beta2", "eps")}
        loop = {"seed": settings["seed"], "dropout": settings["dropout"], "max_norm": OPTIMIZER.clip_norm}
        super().__init__(model, SCHEDULE | hyper | loop | {"weight_decay": OPTIMIZER.weight_decay})
        decay = {name: OPTIMIZER.weight_decay if decays(name) else 0.0 for name in model.shapes}
        self.optimizer = hyper | {"max_norm": OPTIMIZER.clip_norm, "weight_decay": decay}

    def train(self, batches: Sequence[MicroBatch], accumulate: int) -> list[dict[str, Any]]:
        """One update for every `accumulate` micro-batches of [B, T] arrays, and one for those left over."""
        whole = [_batch(*batch) for batch in batches]
        windows = [whole[i : i + accumulate] for i in range(0, len(whole), accumulate)]
        return [dict(vars(self.update(window))) for window in windows]

    def loss(self, batch: MicroBatch) -> float:
        """Mean loss in nats of the predicted tokens of [B, T] arrays, without dropout."""
        return self.evaluate([batch])

    def evaluate(self, batches: Sequence[MicroBatch]) -> float:
        """The same over several batches of [B, T] arrays."""
        score = evaluate.score(self._model, [_batch(*batch) for batch in batches])
        return score.nll_sum / max(score.tokens, 1)

    def gradients(self, micro_batch: MicroBatch) -> dict[str, Array]:
        """Gradient of the loss of [B, T] arrays by name, of the shapes of the parameters."""
        batch = _batch(*micro_batch)
        self._model.zero_gradients()
        self._model.accumulate(batch, NO_DROPOUT, batch.tokens)
        self._model.finish_gradients()
        return {name: x.copy() for name, x in self._model.gradients.items()}

    def parameters(self) -> dict[str, Array]:
        """Copies by name, of the shapes of the model."""
        return self._model.state()

    def set_parameters(self, values: Mapping[str, Array]) -> None:
        """Put these arrays, of the shapes of the parameters, in their place."""
        self._model.restore(values)

    def moments(self) -> dict[str, Any]:
        """t, and m and v by name, of the shapes of the parameters."""
        state = self._optimizer.state()
        found = {kind: {n: state[f"{kind}.{n}"] for n in self._model.shapes} for kind in ("m", "v")}
        return {"t": state["t"], **found}


def _batch(input: Array, target: Array, loss_mask: Array) -> Batch:
    return Batch(plain(input), plain(target), plain(loss_mask), np.ones(loss_mask.shape, np.bool_))
