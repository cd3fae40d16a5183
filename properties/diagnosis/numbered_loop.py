"""The reference loop with one number that is not the configured one: so many times it, or always the same."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fixtures.diagnosis_words import Quantity
from fixtures.mutants.lifted import WithFactors
from reference.training import MATRICES, Trainer

SETTING = {
    Quantity.EPSILON: "eps",
    Quantity.DECAY: "weight_decay",
    Quantity.LIMIT: "max_norm",
    Quantity.BETA1: "beta1",
    Quantity.BETA2: "beta2",
    Quantity.DROPOUT: "dropout",
}
"""Quantities that are settings of the loop."""
Loop = type[Trainer]
Change = Callable[[float], float]


def fixed(value: float) -> Change:
    """This number, whatever is configured."""
    return lambda _: value


def filled(value: float) -> Change:
    """This number where 0 is configured."""
    return lambda configured: configured or value


def scaled(factor: float, most: float = np.inf) -> Change:
    """So many times what is configured, `most` at the most."""
    return lambda configured: min(factor * configured, most)


def with_setting(quantity: Quantity, change: Change) -> Loop:
    """The loop with this setting changed."""
    key = SETTING[quantity]

    class Changed(Trainer):
        def __init__(self, params: Any, settings: Any, **conventions: Any) -> None:
            value = settings[key]
            plain = float(np.asarray(getattr(value, "value", value)))
            super().__init__(params, dict(settings) | {key: change(plain)}, **conventions)

        if quantity == Quantity.DECAY:  # of a run without it, too

            def decay(self, name: str) -> Any:
                return self.settings[key] if name in MATRICES else 0.0

    return Changed


def with_rate(factor: float) -> tuple[Loop, ...]:
    """The rate as logged and used; used alone; used for the direction but not for the decay."""

    class Logged(Trainer):
        def rate(self, k: int) -> Any:
            return factor * super().rate(k)

    class Used(Trainer):
        def step(self, name: str, gradient: Any, lr: Any) -> None:
            super().step(name, gradient, factor * lr)

    class Direction(Trainer):
        def step(self, name: str, gradient: Any, lr: Any) -> None:
            self.scaled = 1.0 / factor
            super().step(name, gradient, factor * lr)

        def decay(self, name: str) -> Any:
            return super().decay(name) * self.scaled

    return Logged, Used, *((Direction,) if factor else ())


def with_loss(factor: float) -> tuple[Loop, ...]:
    """The loss and its gradient multiplied; or the logged loss alone."""

    class Both(Trainer):
        def token_mean(self, sums: Any) -> Any:
            loss, gradients = super().token_mean(sums)
            return factor * loss, {name: factor * g for name, g in gradients.items()}

    class Logged(Trainer):
        def update(self, window: Any) -> Any:
            record = super().update(window)
            return record | {"loss": factor * record["loss"]}

    return Both, Logged


def with_gradient(factor: float) -> tuple[Loop, ...]:
    """The gradient multiplied, before it is clipped; or after."""

    class Before(Trainer):
        def token_mean(self, sums: Any) -> Any:
            loss, gradients = super().token_mean(sums)
            return loss, {name: factor * g for name, g in gradients.items()}

    class After(Trainer):
        def clip(self, gradients: Any) -> Any:
            clipped, norm = super().clip(gradients)
            return {name: factor * g for name, g in clipped.items()}, norm

    return Before, After


def with_logits(factor: float) -> tuple[Loop, ...]:
    """The logits multiplied, in training and evaluation."""

    class Scaled(Trainer):
        def token_losses(self, logits: Any, targets: Any) -> Any:
            return super().token_losses(factor * logits, targets)

        def logit_gradients(self, logits: Any, targets: Any) -> Any:
            return factor * super().logit_gradients(factor * logits, targets)

    return (Scaled,)


def with_inputs(factor: float) -> tuple[Loop, ...]:
    """The embedded inputs multiplied, in training and evaluation, or in training alone. Without dropout."""

    class Training(WithFactors):
        def factors(self, shape: tuple[int, ...], first_row: int) -> Any:
            width = self.params["E"].shape[1]
            p = float(np.asarray(getattr(self.settings["dropout"], "value", self.settings["dropout"])))
            keep = np.where(self.kept(shape, first_row), 1.0 / (1.0 - p), 0.0) if p else 1.0
            return np.full((*shape, width), factor) * keep

    class Everywhere(Training):
        def evaluate(self, batches: Any) -> Any:
            kept = self.params
            self.params = kept | {"E": kept["E"] * factor}
            value = super().evaluate(batches)
            self.params = kept
            return value

    return Everywhere, Training


def with_window(factor: float) -> Loop:
    """So many times the micro-batches in a window."""

    class Longer(Trainer):
        def windows(self, micro_batches: Any, accumulate: int) -> Any:
            return super().windows(micro_batches, max(round(factor * accumulate), 1))

    return Longer
