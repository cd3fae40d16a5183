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


def momentum_at(
    step: int, *, start: float, peak: float, final: float, ramp: int, cooldown: int, total: int
) -> float:
    """Muon's momentum in update `step`, from 0, of `total`: a line from `start` to `peak`, then `peak`.

    The last `cooldown` updates are a line to `final`, which the last of them has. A ramp that is longer than what is
    left before is shortened.
    """
    last = total - 1
    cooldown = min(cooldown, last)
    ramp = min(ramp, last - cooldown)
    if cooldown and step > last - cooldown:
        return peak + (final - peak) * (min(step - last + cooldown, cooldown) / cooldown)
    return start + (peak - start) * (step / ramp) if step < ramp else peak


def weight_decay_at(step: int, *, initial: float, total: int, schedule: str) -> float:
    """Muon's decay in update `step`, from 0: `initial` at first, 0 after `total` updates, unless it is "constant"."""
    progress = min(step / total, 1.0)
    if schedule == "constant":
        return initial
    if schedule == "linear":
        return initial * (1.0 - progress)
    return initial * 0.5 * (1.0 + cosine(math.pi * progress))


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
