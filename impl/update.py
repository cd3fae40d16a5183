"""One update: the gradient of a window (the micro-batches of an update), clipped, then AdamW at the schedule's rate.

With loss scaling, the gradient is that of a multiple of the loss, which is divided by before it is clipped; an update
whose gradient overflows is not made.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from impl.data.iterator import Batch
from impl.errors import NonFiniteError, SkippedUpdate
from impl.model.dropout import Dropout
from impl.model.language_model import LanguageModel
from impl.optim.loss_scale import LossScale
from impl.optim.optimizer import AdamW, clip_factor
from impl.optim.schedule import Schedule
from impl.optim.stochastic_rounding import StochasticRounding


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
    objective: float | None = None
    """What was minimised, nats per predicted token, where that is more than the loss."""

    def record(self) -> dict[str, Any]:
        """Its fields by name, those alone that say something."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ScaledUpdate(Update):
    """What is logged of an update with loss scaling."""

    loss_scale: float
    skipped: int
    """Updates since the one before that overflowed, and were not made."""


def update(
    model: LanguageModel,
    optimizer: AdamW,
    scheduler: Schedule,
    dropout: Dropout,
    window: Sequence[Batch],
    clip_norm: float,
    refuse: Callable[[int, float], None] = lambda step, loss: None,
    scaler: LossScale | None = None,
    rounding: StochasticRounding | None = None,
) -> Update:
    """One update from the micro-batches of a window; each token of the window has the same weight.

    Raises NonFiniteError before a NaN or an infinity reaches a parameter, and SkippedUpdate if the gradients overflow
    under a loss scale: that is smaller then, and nothing else has changed. `refuse` is told the number of the update
    and its loss, and may raise as well.
    """
    tokens = sum(batch.tokens for batch in window)
    model.zero_gradients()
    nll, scale = 0.0, scaler.scale if scaler else 1.0
    for batch in window:
        nll = model.accumulate(batch, dropout, tokens, nll, scale)
        dropout = dropout.advance(len(batch.input))
    grad_norm = math.sqrt(model.finish_gradients()) / scale
    loss = nll / max(tokens, 1)
    objective = loss + model.penalty / max(tokens, 1)
    if scaler:
        refuse_non_finite(scheduler.step + 1, loss=loss, objective=objective)
        scaler.settle(math.isfinite(grad_norm))
        if not math.isfinite(grad_norm):
            raise SkippedUpdate(f"a loss scale of {scale}")
        model.flat_gradients *= model.flat_gradients.dtype.type(1.0 / scale)
    refuse_non_finite(scheduler.step + 1, loss=loss, objective=objective, gradient_norm=grad_norm)
    refuse(scheduler.step + 1, loss)
    lr = scheduler.next_rate()
    clip = clip_factor(grad_norm, clip_norm)
    optimizer.update(model.flat_parameters, model.flat_gradients, lr, clip)
    if rounding:
        rounding.round(model.flat_parameters)
    said = loss, lr, grad_norm, tokens, objective if model.penalised else None
    if scaler:
        return ScaledUpdate(*said, loss_scale=scale, skipped=scaler.take_skipped())
    return Update(*said)


def refuse_non_finite(step: int, **values: float) -> None:
    """Raise a NonFiniteError that names the first value which is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            what = name.replace("_", " ")
            raise NonFiniteError(f"step {step}: the {what} is {value}; stopped, nothing of it was kept")
