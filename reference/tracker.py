"""The best evaluation of a run, and early stopping: after how many evaluations without a better one a run ends.

An evaluation is better if it is finite and below the best so far by more than `min_delta` (above it, for mode "max").
Patience counts evaluations, not updates, since the last better one:

    patience     reached: stop at the first evaluation without improvement at which the count is `patience` (Keras)
                 exceeded: one later, at patience + 1 (PyTorch's ReduceLROnPlateau, composer)
    ties         first: an equal value is not better; last: it is, if min_delta is 0
    non_finite   waits: a NaN or an infinity is an evaluation without improvement; stops: it ends the run (Lightning)

Source: Prechelt, "Early stopping - but when?", 1998, the criterion UP with strips of one evaluation.
"""

import math
from typing import Any


class Tracker:
    """`settings`: mode "min" or "max", patience (None: no early stopping), min_delta."""

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        patience: str = "reached",
        ties: str = "first",
        non_finite: str = "waits",
    ) -> None:
        self._sign = 1.0 if settings["mode"] == "min" else -1.0
        self._patience: int | None = settings["patience"]
        self._delta: float = settings["min_delta"]
        self._late = int(patience == "exceeded")
        self._ties, self._non_finite = ties, non_finite
        self.best: float | None = None
        self.best_step: int | None = None
        self.waited = 0
        self.stop = False

    def update(self, value: float, step: int) -> bool:
        """Take the evaluation after update number `step`; whether it is the best so far."""
        if self._better(value):
            self.best, self.best_step, self.waited = value, step, 0
            return True
        self.waited += 1
        tired = self._patience is not None and self.waited >= self._patience + self._late
        self.stop = self.stop or tired or (self._non_finite == "stops" and not math.isfinite(value))
        return False

    def _better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        gain = self._sign * (self.best - value)
        return gain > self._delta or (self._ties == "last" and gain == self._delta == 0.0)

    def state(self) -> dict[str, Any]:
        """best, best_step, waited and stop, which JSON can hold."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited, "stop": self.stop}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.best, self.best_step = state["best"], state["best_step"]
        self.waited, self.stop = state["waited"], state["stop"]
