"""One update: the gradient of a window of micro-batches, clipped, then AdamW at the schedule's rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from impl.data.iterator import Batch
from impl.errors import NonFiniteError
from impl.model.dropout import Dropout
from impl.optim.optimizer import AdamW, clip_factor
from impl.optim.schedule import Schedule

Array = np.ndarray[Any, np.dtype[Any]]


class LanguageModel(Protocol):
    """What an update needs of a model: flat buffers, and gradients that are added to."""

    flat_parameters: Array
    flat_gradients: Array

    def zero_gradients(self) -> None: ...

    def accumulate(self, batch: Batch, dropout: Dropout, tokens: int, nll: float = 0.0) -> float: ...

    def finish_gradients(self) -> float:
        """The sum of the squares of all gradients."""


@dataclass(frozen=True)
class Update:
    """What an update was made of."""

    loss: float
    """Mean nats a predicted token of the window, before the update, with dropout."""
    lr: float
    grad_norm: float
    """Global norm of the window's gradient, before clipping."""
    tokens: int
    """Predicted tokens in the window."""


def update(
    model: LanguageModel,
    optimizer: AdamW,
    scheduler: Schedule,
    dropout: Dropout,
    window: Sequence[Batch],
    clip_norm: float,
) -> Update:
    """One update from the micro-batches of a window; each token of the window weighs the same.

    NonFiniteError before a NaN or an infinity reaches a parameter.
    """
    tokens = sum(batch.tokens for batch in window)
    model.zero_gradients()
    nll = 0.0
    for batch in window:
        nll = model.accumulate(batch, dropout, tokens, nll)
        dropout = dropout.behind(len(batch.input))
    grad_norm = math.sqrt(model.finish_gradients())
    loss = nll / max(tokens, 1)
    refuse_non_finite(scheduler.step + 1, loss=loss, gradient_norm=grad_norm)
    lr = scheduler.next_rate()
    clip = clip_factor(grad_norm, clip_norm)
    optimizer.update(model.flat_parameters, model.flat_gradients, lr, clip)
    return Update(loss, lr, grad_norm, tokens)


def refuse_non_finite(step: int, **values: float) -> None:
    """NonFiniteError that names the first value which is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            what = name.replace("_", " ")
            raise NonFiniteError(f"step {step}: the {what} is {value}; stopped, nothing of it was kept")
