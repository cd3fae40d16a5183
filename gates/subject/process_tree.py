"""What a subject started and left behind: found, and ended with it.

A process that leaves its session (setsid) and its parent (a double fork) is handed by Linux to the nearest ancestor
that asked for orphans, which is then this process; it is known by its session, by a mark in its environment, or by its
ancestors. Where the system has no such thing, only children that still have their parent are found.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import psutil

MARK = "HONESTLOOP_PROCESS"
"""The variable by which a subject's processes are known; its value is another one for every process of the gates."""
PATIENCE = 10.0
"""Seconds for which processes that go on forking are hunted."""
PAUSE = 0.002
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Relative:
    """A process below this one."""

    pid: int
    parent: int
    session: int
    mark: str | None
    """None if its environment has none, or cannot be read."""


@cache
def adopt_orphans() -> None:
    """Have the orphans of everything that is started from here handed to this process. Nothing, but on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def relatives() -> list[Relative]:
    """Every process below this one, parents before their children."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            try:
                mark = process.environ().get(MARK)
            except (psutil.AccessDenied, psutil.ZombieProcess, OSError):
                mark = None
            found.append(Relative(process.pid, process.ppid(), os.getsid(process.pid), mark))
    return found


def end(doomed: Callable[[Relative], bool]) -> None:
    """SIGKILL to every process below this one of which `doomed` holds, and to those below it, until none is left."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        pids: set[int] = set()
        for process in relatives():
            if doomed(process) or process.parent in pids:
                pids.add(process.pid)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ChildProcessError):  # its parent, which is not this process, is told
                os.waitpid(pid, os.WNOHANG)
        time.sleep(PAUSE)
