"""Losses that are out of line: by their z-score among the last ones. What is not finite always is."""

import math
from typing import Any


class OutlierDetector:
    """Whether a loss is more than `threshold` standard deviations above the mean of the `window` losses before it.

    Nothing is said until there are that many. The deviation is that of a sample (n - 1). Every finite loss enters the
    window, one that is out of line too; one that is not finite is out of line and never enters it.
    """

    def __init__(self, window: int, threshold: float) -> None:
        self._window, self._threshold = window, threshold
        self._seen: list[float] = []

    def update(self, value: float) -> bool:
        """Take a loss; whether it is out of line."""
        if not math.isfinite(value):
            return True
        seen, self._seen = self._seen, [*self._seen, value][-self._window :]
        if len(seen) < self._window:
            return False
        mean = math.fsum(seen) / len(seen)
        variance = math.fsum((x - mean) ** 2 for x in seen) / (len(seen) - 1)
        return value - mean > self._threshold * math.sqrt(variance)

    def state(self) -> dict[str, Any]:
        return {"seen": list(self._seen)}

    def restore(self, state: dict[str, Any]) -> None:
        self._seen = [float(x) for x in state["seen"]]
