"""A limit on the time of one call, inside this process and on every platform.

Where the system has interval timers (Linux, macOS) and the call is made in the main thread, a signal interrupts it,
which also ends a sleep or a regular expression. Elsewhere a monitor thread raises TimeLimitError in the calling thread,
which Python does between two bytecodes. Native code that neither reaches can only be ended with its process.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TIME_LIMIT = 60.0
"""Seconds a call may take; a first call may compile."""
GRACE = 10.0
"""Seconds after the limit in which a call that native code holds up must have come back."""
POLL = 0.05
"""Seconds between two looks of the monitor."""


class TimeLimitError(BaseException):
    """A call took too long. No `except Exception` of the subject's catches it."""


@dataclass
class Deadline:
    """A call under way: when it must have returned, and how it is ended if it has not."""

    name: str
    limit: float
    """time.monotonic()"""
    thread: int | None
    """Ident of the thread in which to raise TimeLimitError at the limit; None: a signal does it."""
    ends_process: bool
    raised: bool = False


class Monitor:
    """A thread that looks after the calls under way; it starts with the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: list[Deadline] = []
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, deadline: Deadline) -> Iterator[None]:
        """Look after a call while the `with` block runs."""
        with self._lock:
            self._deadlines.append(deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="honestloop-time-limit", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._deadlines.remove(deadline)
                if deadline.raised and deadline.thread is not None:  # it may not have been delivered yet
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(deadline.thread), None)

    def _run(self) -> None:
        while True:
            time.sleep(POLL)
            now = time.monotonic()
            with self._lock:
                for deadline in self._deadlines:
                    if now > deadline.limit and deadline.thread is not None and not deadline.raised:
                        deadline.raised = True
                        error = ctypes.py_object(TimeLimitError)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(deadline.thread), error)
                    if now > deadline.limit + GRACE and deadline.ends_process:
                        end_process(deadline.name)


MONITOR = Monitor()


def end_process(name: str) -> None:
    """One line, and status 1: nothing after this call can be graded."""
    line = f"SUBJ-07  {name} did not return and cannot be interrupted; nothing after it was graded\n"
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line.encode())
    os._exit(1)


@contextlib.contextmanager
def time_limit(seconds: float, name: str, *, ends_process: bool) -> Iterator[None]:
    """Raise TimeLimitError in the `with` block after these seconds.

    `ends_process`: whether the process may be ended if the block has not come back GRACE seconds later.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    by_signal = hasattr(signal, "setitimer") and in_main_thread
    thread = None if by_signal else threading.get_ident()
    with MONITOR.watching(Deadline(name, time.monotonic() + seconds, thread, ends_process)):
        if not by_signal:
            yield
            return
        before = signal.signal(signal.SIGALRM, _raise)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)


def _raise(number: int, frame: Any) -> None:
    raise TimeLimitError
