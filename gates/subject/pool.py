"""Runs that are under way while the gates that need them are still waiting: two at a time, in the order of need."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gates.errors import GateError, RunError

WORKERS = 2


Job = Callable[[], Any]
"""Work that a gate needs done by a subject; returns the evidence, raises GateError if there is none."""


class Once:
    """A job whose result another job needs too: it is done by the first that asks, and kept for all."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lock = threading.Lock()
        self._outcome: Future[Any] = Future()

    def __call__(self) -> Any:
        """The result, waited for if another thread is at it. Raises what the job raised."""
        with self._lock:
            if not self._outcome.done():
                try:
                    self._outcome.set_result(self._job())
                except Exception as error:
                    self._outcome.set_exception(error)
        return self._outcome.result()


@dataclass(frozen=True)
class Part:
    """Of a job that returns several things by name: one of them."""

    job: str
    name: str


class Pool:
    """Starts the jobs it is given, and gives each result to a test that asks, waiting for it if need be.

    Where the first of the subject's own jobs shows that it hangs, or dies before it trains, the others of the subject
    are not started: each ends in one line that says so.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job | Part],
        needed: Iterable[str],
        of_subject: Collection[str] = (),
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`of_subject`: the jobs that start the subject, and not a loop of ours. `tell` is told how far they are."""
        self._parts = {name: job for name, job in jobs.items() if isinstance(job, Part)}
        whole = (self._parts[name].job if name in self._parts else name for name in needed)
        names = list(dict.fromkeys(whole))
        self._tell, self._count = tell, len(names)
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="subject")
        self.seconds: dict[str, float] = {}
        self._of_subject = [name for name in names if name in of_subject]
        self._works = False
        """Whether a job of the subject has shown that it can be run."""
        self._failures: dict[str, str] = {}
        """Job of the subject -> how it hung or died."""
        self._futures: dict[str, Future[Any]] = {}
        for name in names:
            job = jobs[name]
            assert not isinstance(job, Part)
            self._futures[name] = self._executor.submit(self._timed, name, job)

    def __getitem__(self, name: str) -> Any:
        """The job's result. Raises what the job raised; GateError for a job that no test is marked to need."""
        if name in self._parts:
            part = self._parts[name]
            return self[part.job][part.name]
        if name not in self._futures:
            raise GateError(f"job {name!r} was not started: the test lacks @pytest.mark.needs({name!r})")
        return self._futures[name].result()

    def _timed(self, name: str, work: Job) -> Any:
        began = time.monotonic()
        self._tell(f"{name}: started")
        try:
            return self._of_the_subject(name, work) if name in self._of_subject else work()
        finally:
            self.seconds[name] = round(time.monotonic() - began, 2)
            self._tell(
                f"{name}: {self.seconds[name]:.1f} s; {len(self.seconds)} of {self._count} runs are over"
            )

    def _of_the_subject(self, name: str, work: Job) -> Any:
        """The job's result, unless the first one has shown that it is of no use. GateError then."""
        first = self._of_subject[0]
        if self._failures and not self._works and name != first:
            self._futures[first].exception()  # another was quicker to fail; what the first does decides
        if first in self._failures and not self._works:
            raise GateError(f"not started: the first run of the subject failed ({self._failures[first]})")
        try:
            result = work()
        except RunError as error:
            self._works |= error.trained
            self._failures[name] = str(error)
            raise
        self._works = True
        return result

    def close(self) -> None:
        """Drop the jobs that have not begun; those that have must have been ended by the caller."""
        self._executor.shutdown(wait=True, cancel_futures=True)
