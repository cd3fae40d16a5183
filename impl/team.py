"""Threads that work on shares of the same step. Kernels release Python's lock, and no result depends on the shares.

No two shares ever add to the same number: rows of activations and rows of a weight's gradient belong to one share each,
and what is summed over a batch is summed by one share, in order.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

from impl.errors import UsageError

VARIABLE = "OMP_NUM_THREADS"


class Team:
    """So many threads, the caller among them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._others = ThreadPoolExecutor(size - 1, "honestloop") if size > 1 else None

    def run(self, work: Callable[[int, int], None], most: int) -> None:
        """work(share, shares) for every share; at most `most` of them. Returns when all are done."""
        shares = max(1, min(self.size, most))
        others = [self._others.submit(work, share, shares) for share in range(1, shares) if self._others]
        try:
            work(0, shares)
        finally:
            wait(others)
        for other in others:
            other.result()


def share_of(count: int, share: int, shares: int, step: int = 1) -> slice:
    """A contiguous share of `count` things, cut at multiples of `step`."""
    steps = -(-count // step)
    first, last = (steps * s // shares * step for s in (share, share + 1))
    return slice(min(first, count), min(last, count))


@cache
def team() -> Team:
    """The process's team: of as many threads as OMP_NUM_THREADS says, or as there are processors for it."""
    return Team(thread_count())


def thread_count() -> int:
    """UsageError if the variable is there and is no number of threads."""
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not asked.isdecimal() or not 0 < int(asked) <= 1024:
        raise UsageError(f"{VARIABLE}={asked}: expected a number of threads")
    return int(asked)
