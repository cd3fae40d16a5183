"""Dynamic loss scaling (Micikevicius et al. 2018, section 3.2): the scale of the loss, a state machine."""

import math
from typing import Any

import numpy as np

from impl.config import PrecisionConfig
from impl.errors import NonFiniteError

SMALLEST = 2.0**-24
"""Below it a gradient that overflows is none that a smaller scale would mend."""


class LossScale:
    """The scale, how many updates have gone well since it last moved, and how many were skipped since the last one."""

    def __init__(self, config: PrecisionConfig) -> None:
        self._config = config
        self.scale, self.count, self.skipped = config.init_scale, 0, 0

    def settle(self, finite: bool) -> None:
        """Set the scale of the next update, by whether this one's gradients were finite.

        Raises NonFiniteError if they were not at a scale below `SMALLEST`.
        """
        if not finite:
            if self.scale < SMALLEST:
                raise NonFiniteError(
                    f"the gradients overflow at a loss scale of {self.scale}; nothing was kept"
                )
            self.scale, self.count = _single(self.scale * self._config.backoff_factor), 0
            self.skipped += 1
            return
        self.count += 1
        if self.count == self._config.growth_interval:
            grown = _single(self.scale * self._config.growth_factor)
            self.scale, self.count = grown if math.isfinite(grown) else self.scale, 0

    def take_skipped(self) -> int:
        """How many updates were skipped before the one that is made now."""
        skipped, self.skipped = self.skipped, 0
        return skipped

    def state(self) -> dict[str, Any]:
        return {"scale": self.scale.hex(), "growth_tracker": self.count, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        self.scale = float.fromhex(state["scale"])
        self.count, self.skipped = int(state["growth_tracker"]), int(state["skipped"])


def _single(x: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(x))
