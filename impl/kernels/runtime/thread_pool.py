"""Threads that work on the same batch. Kernels release Python's lock, and no result depends on who did what."""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from typing import Any

import numpy as np

from impl.errors import UsageError
from impl.kernels.parallel import COUNTERS
from impl.kernels.runtime.ordered import GAVE_UP

Array = np.ndarray[Any, np.dtype[Any]]

VARIABLE = "OMP_NUM_THREADS"
MANY = 2**18
"""Parameters that are worth waking another thread for."""


class Team:
    """So many threads, the caller among them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._helpers = [_Helper(worker) for worker in range(1, size)]
        # At the latest when the interpreter ends: none may outlive it.
        weakref.finalize(self, _end, self._helpers)

    def run(self, work: Callable[[int], None], most: int, turns: Array) -> None:
        """work(worker) by at most `most` threads at once; returns when the caller's own is done.

        `work` must be one that whoever comes can finish: it returns when all is done, and one that starts later finds
        nothing left to do. `turns` [..., counters] are what it waits by (kernels/turns.py): if it raises in one thread,
        they tell the others. If it raises here, they are waited for, and what was raised first, by whomever, is raised.
        """
        task = _Task(work, turns)
        try:
            for helper in self._helpers[: max(most - 1, 0)]:
                helper.tasks.put(task)
            task.do(0)
        except BaseException as error:
            task.fail(error)  # an interrupt may come anywhere
            self._wait()
            if task.errors[0] is not error:  # which only follows from it
                raise task.errors[0] from None
            raise

    def _wait(self) -> None:
        """Until every helper has ended what it was given."""
        nothing = _Task(lambda _: None, np.zeros(COUNTERS, np.int64))
        for helper in self._helpers:
            helper.tasks.put(nothing)
        for _ in self._helpers:
            nothing.ended.acquire()

    def share(self, kernel: Callable[[Array], None], numbers: int) -> None:
        """kernel(turns), of kernels/shares.py, by all threads; by the caller's alone if others would wake too late."""
        turns = np.zeros(COUNTERS, np.int64)
        if numbers < MANY:
            kernel(turns)
        else:
            self.run(lambda _: kernel(turns), self.size, turns)


class _Task:
    """A call of `Team.run`."""

    def __init__(self, work: Callable[[int], None], turns: Array) -> None:
        self._work, self._turns = work, turns
        self.errors: list[BaseException] = []
        """In the order in which they were raised."""
        self.ended = threading.Semaphore(0)

    def do(self, worker: int) -> None:
        """A worker's part, unless another one has failed already."""
        try:
            if not self.errors:
                self._work(worker)
        except BaseException as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        if error not in self.errors:
            self.errors.append(error)
        self._turns[..., GAVE_UP] = 1


class _Helper:
    """A thread that sleeps until there is a task; None is the end."""

    def __init__(self, worker: int) -> None:
        self.tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self.thread = threading.Thread(
            target=_help, args=(worker, self.tasks), name=f"honestloop-{worker}", daemon=True
        )
        self.thread.start()


def _help(worker: int, tasks: "SimpleQueue[_Task | None]") -> None:
    while (task := tasks.get()) is not None:
        with contextlib.suppress(BaseException):  # the task knows
            task.do(worker)
        task.ended.release()
        del task  # and with it a model that nobody else needs any more


def _end(helpers: list[_Helper]) -> None:
    for helper in helpers:
        helper.tasks.put(None)
    for helper in helpers:
        if helper.thread is not threading.current_thread():
            helper.thread.join()


@cache
def team() -> Team:
    """The process's team: of as many threads as OMP_NUM_THREADS says, or as there are processors for it."""
    return Team(thread_count())


def thread_count() -> int:
    """UsageError if the variable is there and is no number of threads."""
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (asked.isascii() and asked.isdecimal() and len(asked) < 20 and 0 < int(asked) <= 1024):
        raise UsageError(f"{VARIABLE}={asked}: expected a number of threads")
    return int(asked)
