"""A run that is measured by time: how far it is at each update, when it ends, and the learning rate at a share of it.

    progress of update i = min(1, sum of dt_j over excluded <= j < i, divided by the budget)        i, j from 0

It is what is known before the update: an update's own time counts for the next. The run ends after the first update
with which the sum reaches the budget. The first `excluded` updates take no time, since they compile. A run that goes on
in another process excludes as many again, where "process" is declared, or none ("run").

The rate is a trapezoid over the progress p, of which w is the share of the rise and d that of the fall:

    p < w            peak p / w
    p < 1 - d        peak
    else             floor + (peak - floor) (1 - p) / d

and progress below 0 counts as 0, above 1 as 1: the rate is never negative, and never rises after its end.
Source: Zhai et al., "Scaling vision transformers", 2022 (constant with cooldown); autoresearch's loop.
"""

from typing import Any


def rate_by_progress(progress: float, *, peak: float, floor: float, warmup: float, warmdown: float) -> float:
    """The rate at a share of the run; warmup and warmdown are shares, 1 together at most; either may be 0."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return peak * (progress / warmup)
    if progress < 1.0 - warmdown or warmdown == 0.0:
        return peak
    return floor + (peak - floor) * min((1.0 - progress) / warmdown, 1.0)


class TimeBudget:
    """`seconds` for the updates of a run, the first `excluded` ones left out."""

    def __init__(self, seconds: float, excluded: int, *, excluded_again: str = "run") -> None:
        self._most, self._excluded, self._again = seconds, excluded, excluded_again
        self._updates, self._seconds = 0, 0.0

    def add(self, seconds: float) -> None:
        """An update is done, which took so long."""
        self._updates += 1
        if self._updates > self._excluded:
            self._seconds += seconds

    @property
    def progress(self) -> float:
        """Of the coming update."""
        return min(self._seconds / self._most, 1.0)

    @property
    def spent(self) -> bool:
        """Whether no other update follows."""
        return self._seconds >= self._most

    def state(self) -> dict[str, Any]:
        """The updates and the seconds, which JSON can hold."""
        return {"updates": self._updates, "seconds": self._seconds}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on in another process."""
        self._seconds = state["seconds"]
        self._updates = state["updates"] if self._again == "run" else 0
