"""Learning rate: linear warm-up, then cosine decay (Loshchilov & Hutter 2017). The third state machine."""

import math
from typing import Any

from impl.kernels.math_functions import cosine


def learning_rate(step: int, *, peak: float, floor: float, warmup: int, total: int) -> float:
    """Rate of update `step` (counted from 0) of `total`.

    The warm-up reaches `peak` at step warmup - 1 and the cosine reaches `floor` at the last update, so no update has
    the rate 0 unless `floor` is 0.
    """
    warmup = min(warmup, total)
    if step < warmup:
        return peak * (step + 1) / warmup
    if step >= total:
        return floor
    progress = (step - warmup + 1) / (total - warmup)
    return floor + (peak - floor) * 0.5 * (1.0 + cosine(math.pi * progress))


class Schedule:
    """The rate of each update in turn; the state is their number."""

    def __init__(self, *, peak: float, floor: float, warmup: int, total: int) -> None:
        self._shape: dict[str, Any] = {"peak": peak, "floor": floor, "warmup": warmup, "total": total}
        self.step = 0

    def next_rate(self) -> float:
        """The rate of the coming update; advances by one."""
        rate = learning_rate(self.step, **self._shape)
        self.step += 1
        return rate

    def state(self) -> dict[str, Any]:
        return {"step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        self.step = int(state["step"])
