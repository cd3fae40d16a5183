"""Losses that are out of line, by their z-score among the last ones; what is not finite always is.

    out of line    iff    x - mean > threshold * s,    mean and s of the window

The window holds the last n finite losses; until it is full nothing is said. Two choices, declared:

    outlier_window       before: the n losses before x; with: the last n, x among them (llm.c, OLMo-core). With x in it
                         z is at most (n - 1) / sqrt(n), whatever x is: 11.3 for 128
    outlier_deviation    sample: s^2 divides by n - 1; population: by n

A NaN or an infinity never enters the window: a running sum that has seen one is NaN for ever. Every finite loss does.
Source: Grubbs, 1950; llm.c's OutlierDetector; OLMo-core's SkipStepOptimizer.
"""

import math
from fractions import Fraction
from typing import Any


class OutlierDetector:
    """The z-score test over `window` losses, 2 at least, in exact arithmetic."""

    def __init__(
        self, window: int, threshold: float, *, outlier_window: str = "before", deviation: str = "sample"
    ) -> None:
        self._window, self._threshold = window, threshold
        self._with, self._lost = outlier_window == "with", int(deviation == "sample")
        self._seen: list[float] = []

    def update(self, value: float) -> bool:
        """Take a loss; whether it is out of line."""
        if not math.isfinite(value):
            return True
        before, self._seen = self._seen, [*self._seen, value][-self._window :]
        seen = self._seen if self._with else before
        if len(seen) < self._window:
            return False
        return self.excess(seen, value) > 0

    def excess(self, seen: list[float], value: float) -> Fraction:
        """(x - mean)^2 - threshold^2 s^2, exactly; below 0 for an x that is not above the mean."""
        exact = [Fraction(x) for x in seen]
        mean = sum(exact, Fraction(0)) / len(exact)
        variance = sum(((x - mean) ** 2 for x in exact), Fraction(0)) / (len(exact) - self._lost)
        gap = Fraction(value) - mean
        return gap**2 - Fraction(self._threshold) ** 2 * variance if gap > 0 else Fraction(-1)

    def undecided(self, value: float) -> bool:
        """Whether floating-point roundings may decide: the gap is the deviation's multiple but for a few of them.

        Mean and sum of n squares of numbers below M are off by less than (4 n + 8) M^2 u.
        """
        seen = [*self._seen, value][-self._window :] if self._with else self._seen
        if not math.isfinite(value) or len(seen) < self._window:
            return False
        largest = max(map(abs, [*seen, value])) * max(self._threshold, 1.0)
        return abs(self.excess(seen, value)) <= (4 * len(seen) + 8) * largest**2 * 2.0**-53

    def state(self) -> dict[str, Any]:
        """The window, which JSON can hold."""
        return {"seen": list(self._seen)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._seen = list(state["seen"])
