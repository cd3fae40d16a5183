"""A grading in a child process, so that a subject that ends its process does not end it well.

A subject's functions run in the process that grades them, and `os._exit(0)` in one of them, or in what it has run at
exit, would be a status of 0 before anything was judged. So the process forks first: the child grades and proves that it
came to the end by a word that the parent told it; without that word its status counts for nothing. On systems without a
safe fork the grading runs unwatched.
"""

import contextlib
import os
import secrets
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from honestloop.exit_status import FAILED

POLL = 0.05
PATIENCE = 5.0
"""Seconds in which a child that has come to the end must be gone."""
FORWARD_AFTER = 0.5
"""Seconds after which an interruption is passed on; a terminal has told the child itself."""


@dataclass
class Reporter:
    """The child's end: it says how far it is, and, last, that it came to the end."""

    _descriptor: int
    _word: str = field(repr=False)

    def at(self, place: str) -> None:
        """What was graded last."""
        self._say(f"at {place}")

    def done(self, status: int) -> None:
        """It is over, and this is the status."""
        self._say(f"{self._word} {int(status)}")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the parent is gone
            os.write(self._descriptor, f"{line}\n".encode("utf-8", "replace"))


def is_possible() -> bool:
    """Whether this process can be forked safely here and now."""
    return hasattr(os, "fork") and sys.platform != "darwin" and threading.active_count() == 1


def supervised(work: Callable[[Reporter], int]) -> int:
    """What `work` returns, done in a child; FAILED, and one line on standard error, if the child did not say so."""
    split = fork()
    if isinstance(split, Reporter):
        status = work(split)
        sys.stdout.flush()
        split.done(status)
        os._exit(status)
    status, line = split
    if line:
        print(f"error: {line}", file=sys.stderr)
    return status


def fork() -> Reporter | tuple[int, str]:
    """In the child its reporter; in the parent, once the child has ended, its status and what is wrong with its end."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    word = secrets.token_hex(16)
    listen, speak = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the threads of a linear algebra library, which wait for work
        child = os.fork()
    if child == 0:
        os.close(listen)
        return Reporter(speak, word)
    os.close(speak)
    return _Watch(child, listen, word).until_its_end()


@dataclass
class _Watch:
    """The parent's end."""

    child: int
    listen: int
    word: str
    heard: bytes = b""
    interrupted: float | None = None
    over: float | None = None

    def until_its_end(self) -> tuple[int, str]:
        before = {number: signal.signal(number, self._pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while (ended := os.waitpid(self.child, os.WNOHANG))[0] == 0:
                self._hear(POLL)
                now = time.monotonic()
                if self.interrupted and now > self.interrupted + FORWARD_AFTER:
                    self.interrupted = None
                    os.kill(self.child, signal.SIGINT)
                if self._proof() is not None:
                    self.over = self.over or now
                    if now > self.over + PATIENCE:
                        os.kill(self.child, signal.SIGKILL)
            self._hear(0.0)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self.listen)
        proof = self._proof()
        return (proof, "") if proof is not None else (FAILED, self._complaint(ended[1]))

    def _hear(self, patience: float) -> None:
        """Read what the child said; nobody else's open end of the pipe is waited for."""
        while select.select([self.listen], [], [], patience)[0]:
            said = os.read(self.listen, 1 << 16)
            if not said:
                time.sleep(patience)
                return
            self.heard, patience = (self.heard + said)[-(1 << 16) :], 0.0

    def _proof(self) -> int | None:
        for line in self.heard.decode("utf-8", "replace").splitlines():
            if line.startswith(f"{self.word} "):
                return int(line.split()[1])
        return None

    def _complaint(self, ended: int) -> str:
        code = os.waitstatus_to_exitcode(ended)
        how = f"with status {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        places = [
            line[3:] for line in self.heard.decode("utf-8", "replace").splitlines() if line.startswith("at ")
        ]
        where = f"after {places[-1]}" if places else "before anything was graded"
        return f"the subject ended the process that grades it, {how}, {where}; nothing after that was graded"

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.interrupted = self.interrupted or time.monotonic()
        else:
            os.kill(self.child, number)
