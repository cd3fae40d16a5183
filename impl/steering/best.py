"""The best evaluation of a run, and early stopping when none was better for a while (Prechelt 1998)."""

import math
from typing import Any


class BestTracker:
    """The best evaluation so far: finite, and better than the last best one by more than `min_delta`.

    `settings` has mode ("min" or "max"), patience (the evaluations without improvement at which to stop, None for
    never) and min_delta. An evaluation that is not finite is one without improvement.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._sign = {"min": 1.0, "max": -1.0}[settings["mode"]]
        self._patience, self._min_delta = settings["patience"], settings["min_delta"]
        self.best: float | None = None
        self.best_step: int | None = None
        self.stop = False
        self._waited = 0

    def update(self, value: float, step: int) -> bool:
        """Take the evaluation after update `step`, counted from 1; whether it is the best so far."""
        if math.isfinite(value) and (self.best is None or self._sign * (self.best - value) > self._min_delta):
            self.best, self.best_step, self._waited = value, step, 0
            return True
        self._waited += 1
        self.stop = self.stop or (self._patience is not None and self._waited >= self._patience)
        return False

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "waited": self._waited, "stop": self.stop}

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.best_step = state["best"], state["best_step"]
        self._waited, self.stop = state["waited"], state["stop"]
