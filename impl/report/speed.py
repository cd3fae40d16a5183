"""Speed, time left and cost: from the times at which steps began and ended, and from the seconds of each process."""

import math
from collections.abc import Sequence

HOUR = 3600.0


def tokens_per_second(
    steps: Sequence[tuple[float, float, int]], *, excluded: int, done: int, total: int
) -> tuple[float | None, float | None]:
    """(tokens a second, seconds left) after the steps of a process, each (began, ended, tokens).

    The first `excluded` are not timed; `done` updates were made before, `total` is the run's length. None both if no
    step was timed.
    """
    timed = steps[excluded:]
    if not timed:
        return None, None
    seconds = sum(ended - began for began, ended, _ in timed)
    return sum(tokens for *_, tokens in timed) / seconds, (total - done - len(steps)) * (seconds / len(timed))


def cost(seconds: Sequence[float], *, price: float, devices: int) -> float:
    """What the processes of a run cost that took these seconds, billed by the second; `price` of a device's hour."""
    return math.fsum(seconds) / HOUR * price * devices
