"""A pool of threads that run kernels. Kernels release the GIL, and no result depends on which thread computes what."""

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
from impl.kernels.runtime.ticket_counters import FAILED, FIRST_FREE_COUNTER

Array = np.ndarray[Any, np.dtype[Any]]

THREADS_VARIABLE = "OMP_NUM_THREADS"
PARALLEL_THRESHOLD = 2**18
"""A pass over at least this many parameters is worth waking other threads for."""


class ThreadPool:
    """`size` threads; the thread that calls `run` is one of them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._helpers = [_Helper(worker) for worker in range(1, size)]
        # The threads end with the pool, and at the latest when the interpreter exits.
        weakref.finalize(self, _stop, self._helpers)

    def run(self, work: Callable[[int], None], limit: int, counters: Array) -> None:
        """Call work(worker) in at most `limit` threads at once; return when the call in this thread has returned.

        `work` must (a) return only after every item of the task is finished, by any thread, and (b) return at once if a
        helper enters it after that. `counters`, whose last axis is indexed by FAILED, NEXT_ITEM, ...
        (runtime/ticket_counters.py), are those on which `work` spins: if it raises in one thread, FAILED is set and
        `wait_until` raises in the others. If it raises in this thread, `run` waits for the others, and then raises the
        error that came first in any thread.
        """
        task = _Task(work, counters)
        try:
            for helper in self._helpers[: max(limit - 1, 0)]:
                helper.tasks.put(task)
            task.run(0)
        except BaseException as error:
            task.fail(error)  # a KeyboardInterrupt may be raised outside task.run
            self._wait()
            if task.errors[0] is not error:  # `error` is only a consequence of the first one
                raise task.errors[0] from None
            raise

    def _wait(self) -> None:
        """Return when every helper has finished the tasks in its queue."""
        empty = _Task(lambda _: None, np.zeros(FIRST_FREE_COUNTER, np.int64))
        for helper in self._helpers:
            helper.tasks.put(empty)
        for _ in self._helpers:
            empty.finished.acquire()

    def run_chunks(self, kernel: Callable[..., None], parameters: int, *arguments: Any) -> None:
        """Call kernel(counters, *arguments) of kernels/parameter_passes.py; below PARALLEL_THRESHOLD in this thread."""
        counters = np.zeros(FIRST_FREE_COUNTER, np.int64)
        if parameters < PARALLEL_THRESHOLD:
            kernel(counters, *arguments)
        else:
            self.run(lambda _: kernel(counters, *arguments), self.size, counters)


class _Task:
    """One call of `ThreadPool.run`."""

    def __init__(self, work: Callable[[int], None], counters: Array) -> None:
        self._work, self._counters = work, counters
        self.errors: list[BaseException] = []
        """In the order in which they were raised."""
        self.finished = threading.Semaphore(0)

    def run(self, worker: int) -> None:
        """Do the work of one thread, unless another thread has failed already."""
        try:
            if not self.errors:
                self._work(worker)
        except BaseException as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        if error not in self.errors:
            self.errors.append(error)
        self._counters[..., FAILED] = 1


class _Helper:
    """A thread that sleeps until its queue has a task; None ends it."""

    def __init__(self, worker: int) -> None:
        self.tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self.thread = threading.Thread(
            target=_serve, args=(worker, self.tasks), name=f"honestloop-{worker}", daemon=True
        )
        self.thread.start()


def _serve(worker: int, tasks: "SimpleQueue[_Task | None]") -> None:
    while (task := tasks.get()) is not None:
        with contextlib.suppress(BaseException):  # the task has recorded it
            task.run(worker)
        task.finished.release()
        del task  # a waiting thread must not keep the task's model alive


def _stop(helpers: list[_Helper]) -> None:
    for helper in helpers:
        helper.tasks.put(None)
    for helper in helpers:
        if helper.thread is not threading.current_thread():
            helper.thread.join()


@cache
def default_pool() -> ThreadPool:
    """The process's pool, with `thread_count` threads."""
    return ThreadPool(thread_count())


def thread_count() -> int:
    """OMP_NUM_THREADS, or the number of CPUs this process may use. UsageError if the variable is not a number."""
    value = os.environ.get(THREADS_VARIABLE)
    if value is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (value.isascii() and value.isdecimal() and len(value) < 20 and 0 < int(value) <= 1024):
        raise UsageError(f"{THREADS_VARIABLE}={value}: expected a number of threads")
    return int(value)
