"""One update: the gradient of a window (the micro-batches of an update), clipped, applied at the schedule's rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from impl.data.iterator import Batch
from impl.errors import NonFiniteError
from impl.model.dropout import Dropout
from impl.model.language_model import LanguageModel
from impl.optim.optimizer import Optimizer, clip_factor
from impl.optim.schedule import Schedule


@dataclass(frozen=True)
class Update:
    """What is logged of an update."""

    loss: float
    """Nats per predicted token of the window, with dropout and the parameters before the update."""
    lr: float
    grad_norm: float
    """Global norm of the window's gradient before clipping."""
    tokens: int
    """How many tokens of the window are predicted."""


def update(
    model: LanguageModel,
    optimizer: Optimizer,
    scheduler: Schedule,
    dropout: Dropout,
    window: Sequence[Batch],
    clip_norm: float,
) -> Update:
    """One update from the micro-batches of a window; each token of the window has the same weight.

    Raises NonFiniteError before a NaN or an infinity reaches a parameter.
    """
    tokens = sum(batch.tokens for batch in window)
    model.zero_gradients()
    nll = 0.0
    for batch in window:
        nll = model.accumulate(batch, dropout, tokens, nll)
        dropout = dropout.advance(len(batch.input))
    grad_norm = math.sqrt(model.finish_gradients())
    loss = nll / max(tokens, 1)
    refuse_non_finite(scheduler.step + 1, loss=loss, gradient_norm=grad_norm)
    lr = scheduler.next_rate()
    clip = clip_factor(grad_norm, clip_norm)
    optimizer.update(model.flat_parameters, model.flat_gradients, lr, clip)
    return Update(loss, lr, grad_norm, tokens)


def refuse_non_finite(step: int, **values: float) -> None:
    """Raise a NonFiniteError that names the first value which is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            what = name.replace("_", " ")
            raise NonFiniteError(f"step {step}: the {what} is {value}; stopped, nothing of it was kept")
