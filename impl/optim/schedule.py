"""Learning rate: linear warm-up, then cosine decay (Loshchilov & Hutter 2017). The third state machine."""

import math
from collections.abc import Callable
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


def rate_of_kind(
    step: int, *, kind: str, peak: float, floor: float, warmup: int, total: int, warmdown: float = 0.65
) -> float:
    """The same for another `kind`: after the same warm-up a line to `floor`, no change, or no change and then a line.

    "warmdown" falls in the last round(warmdown * total) updates, none of them of the warm-up. Every kind that falls
    reaches `floor` at the last update, and keeps it.
    """
    if kind == "cosine":
        return learning_rate(step, peak=peak, floor=floor, warmup=warmup, total=total)
    warmup = min(warmup, total)
    if step < warmup:
        return peak * (step + 1) / warmup
    if kind == "constant":
        return peak
    length = total - warmup
    if kind == "warmdown":
        length = min(round(warmdown * total), length)
    left = min(max(total - 1 - step, 0), length)
    return floor + (peak - floor) * (left / length) if length else floor


def rate_by_progress(progress: float, *, peak: float, floor: float, warmup: float, warmdown: float) -> float:
    """The rate at a share of the run, in whatever it is measured: a rise from 0, no change, a line to `floor`.

    `warmup` and `warmdown` are the shares of the rise and of the fall, 1 together at most. Before the run it is the
    first rate, after it `floor`.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return peak * progress / warmup
    if progress < 1.0 - warmdown:
        return peak
    return floor + (peak - floor) * min((1.0 - progress) / warmdown, 1.0) if warmdown else peak


class Schedule:
    """The rate of each update in turn; the state is their number.

    With `progress` the rate is that at the share of the run that it says, `warmup` and `warmdown` being shares.
    """

    def __init__(
        self,
        *,
        peak: float,
        floor: float,
        warmup: float,
        total: int,
        kind: str = "cosine",
        warmdown: float = 0.65,
        progress: Callable[[], float] | None = None,
    ) -> None:
        self._shape: dict[str, Any] = {"peak": peak, "floor": floor, "warmup": warmup, "warmdown": warmdown}
        self._kind, self._total, self._progress = kind, total, progress
        self.step = 0

    def next_rate(self) -> float:
        """The rate of the coming update; advances by one."""
        if self._progress:
            rate = rate_by_progress(self._progress(), **self._shape)
        else:
            rate = rate_of_kind(self.step, kind=self._kind, total=self._total, **self._shape)
        self.step += 1
        return rate

    def state(self) -> dict[str, Any]:
        return {"step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        self.step = int(state["step"])
