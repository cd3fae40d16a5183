"""Start a subject, interrupt it, wait for its end; what it leaves is read by run_directory.py.

A subject of phase 18 is a module that offers the verbs of the command line (`python -m SUBJECT train ...`). It runs in
a process of its own, from the folder that its description names; nothing of it is ever imported here.
"""

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar, Protocol

from gates.errors import RunError
from gates.subject import process_tree
from gates.subject.output import Output
from gates.subject.run_directory import RunDirectory
from honestloop.guarded_files import printable
from honestloop.suite_location import ROOT

TIMEOUT = 300.0  # seconds; a cold compilation on a slow machine fits several times
POLL = 0.001
LONGEST_LINE = 300  # characters of what a subject said last

# Two subjects run side by side on two cores, so each gets one.
ONE_THREAD = dict.fromkeys(
    ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
UNDRAWN = {"HONESTLOOP_PLOTS": "off"}
UNTRACKED = {"HONESTLOOP_TRACKING": "off", **UNDRAWN}
# Not inherited from the caller's environment: the gates decide what a subject tracks and draws.
NOT_INHERITED = (*UNTRACKED, "MLFLOW_TRACKING_URI")


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment a subject runs in: the caller's, but for tracking and pictures; one thread; what is its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return {**inherited, **ONE_THREAD, **own}


@dataclass(frozen=True)
class Finished:
    """How a process ended. A negative status is the signal that ended it."""

    command: str
    status: int
    stdout: str
    """The end of it, as of the other stream."""
    stderr: str
    seconds: float
    trained: bool = False
    """Whether it was seen to train."""

    def succeeded(self) -> "Finished":
        """Itself. RunError, with the last line it said, unless the status is 0."""
        if self.status != 0:
            last = (self.stderr.strip() or self.stdout.strip() or "(silent)").splitlines()[-1]
            message = f"`{self.command}` ended with status {self.status}: {printable(last)[:LONGEST_LINE]}"
            raise RunError(message, trained=self.trained)
        return self


class Killable(Protocol):
    """Something of a subject that runs."""

    def kill_all_of_it(self) -> None:
        """End it at once, with all that it started."""


class Process:
    """A running subject. Its output is read as it comes; whatever it started ends with it."""

    _running: ClassVar[dict[Killable, tuple[int, str]]] = {}
    """What runs -> the number of its process, which is that of its session too, and its mark."""
    _no_more: ClassVar[bool] = False
    _lock = threading.Lock()

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: Path, talks: bool = False
    ) -> None:
        """Start it; one that `talks` has pipes. RunError if there is no such program, or the session is over."""
        self.command = printable(shlex.join(argv).replace(shlex.quote(sys.executable), "python", 1))
        self._trained, self._started = False, time.monotonic()
        stdin = subprocess.PIPE if talks else subprocess.DEVNULL
        self._popen = Process.born(self, argv, cwd=cwd, env=env, stdin=stdin)
        assert self._popen.stdout is not None and self._popen.stderr is not None
        pipes = [self._popen.stderr] if talks else [self._popen.stdout, self._popen.stderr]
        files = [output.with_suffix(".out"), output.with_suffix(".err")]
        self._said = Output(pipes, files[-len(pipes) :])

    @classmethod
    def born(
        cls, owner: Killable, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: int
    ) -> "subprocess.Popen[bytes]":
        """Start a process, with pipes, that its owner ends with `end_family`. RunError as for a Process."""
        process_tree.adopt_orphans()
        mark = secrets.token_hex(8)
        with cls._lock:  # so that nobody takes it for somebody's orphan before it is known
            if cls._no_more:
                raise RunError("the session was ended before this run began")
            try:
                popen = subprocess.Popen(
                    argv,
                    cwd=cwd,
                    env={**environment(env), process_tree.MARK: mark},
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                command = printable(shlex.join(argv).replace(shlex.quote(sys.executable), "python", 1))
                why = getattr(error, "strerror", None) or str(error)
                raise RunError(f"`{command}` could not be started: {why}") from None
            cls._running[owner] = popen.pid, mark
        return popen

    @property
    def input(self) -> IO[bytes]:
        """Where one that talks is asked."""
        assert self._popen.stdin is not None
        return self._popen.stdin

    @property
    def output(self) -> IO[bytes]:
        """Where it answers."""
        assert self._popen.stdout is not None
        return self._popen.stdout

    def wait(self, timeout: float = TIMEOUT) -> Finished:
        """Wait for the end. RunError if it takes too long; the process is then gone, with all that it started."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise RunError(
                f"`{self.command}` did not end within {timeout:.0f} s", trained=self._trained
            ) from None
        finally:
            self.kill_all_of_it()
        seconds = time.monotonic() - self._started
        *stdout, stderr = self._said.end()  # of one that talks, whoever asked has read what it said
        return Finished(self.command, status, "".join(stdout), stderr, seconds, self._trained)

    def wait_until(self, condition: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
        """Poll until the condition, that it trains, holds; False if the process ended first."""
        limit = time.monotonic() + timeout
        try:
            while not condition():
                if self._popen.poll() is not None:
                    self._trained = condition()
                    return self._trained
                if time.monotonic() > limit:
                    what = "did not come to the point of interruption"
                    raise RunError(f"`{self.command}` {what} within {timeout:.0f} s")
                time.sleep(POLL)
        except BaseException:  # the condition's own too: what is there cannot be read
            self.kill_all_of_it()
            raise
        self._trained = True
        return True

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill_all_of_it(self) -> None:
        """SIGKILL to the process, and to everything that it started, wherever that has gone."""
        Process.end_family(self, self._popen)
        self._said.end()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    @classmethod
    def end_family(cls, owner: Killable, popen: "subprocess.Popen[bytes]") -> None:
        """SIGKILL to what the owner was given by `born`, if it runs, and to everything that it started."""
        if popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()
        own, this = os.getsid(0), os.getpid()
        with cls._lock:
            _, mark = cls._running.pop(owner, (popen.pid, None))
            sessions = {own, *(pid for pid, _ in cls._running.values())}
            marks = {mark for _, mark in cls._running.values()}

            def doomed(process: process_tree.Relative) -> bool:
                if (mark is not None and process.mark == mark) or process.session == popen.pid:
                    return True
                # It has left its session, its parent and its environment: nobody's that still runs.
                orphan = process.parent == this and process.session not in sessions
                return orphan and process.mark not in marks

            process_tree.end(doomed)

    @classmethod
    def kill_the_rest(cls) -> None:
        """End whatever still runs, and start nothing more: the session is over."""
        with cls._lock:
            Process._no_more = True
            left = list(cls._running)
        for process in left:
            process.kill_all_of_it()
        own = os.getsid(0)
        process_tree.end(lambda process: process.session != own)


@dataclass
class Subject:
    """A module that can be trained, with the environment it runs in and the place for its output."""

    module: str
    home: Path
    env: Mapping[str, str] = field(default_factory=lambda: UNTRACKED)
    folder: Path = ROOT
    python: str = sys.executable
    timeout: float = TIMEOUT
    """Seconds that one command may take."""

    def start(self, *arguments: str | Path) -> Process:
        """Start a verb and return at once."""
        self.home.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in self.home.glob("*.out"))
        output = self.home / f"{number:02d}-{arguments[0]}"
        argv = [self.python, "-m", self.module, *map(str, arguments)]
        return Process(argv, cwd=self.folder, env=self.env, output=output)

    def run(self, *arguments: str | Path) -> Finished:
        """Start a verb and wait for its end, whatever its status."""
        return self.start(*arguments).wait(self.timeout)

    def train(self, *arguments: str | Path, out: str = "run") -> "RunDirectory":
        """Train, or go on training, into `home/out`. RunError unless the status is 0."""
        directory = RunDirectory(self.home / out)
        try:
            self.run("train", "--out", directory.path, *arguments).succeeded()
        except RunError as error:
            error.trained = directory.logged_steps() > 0
            raise
        return directory

    def interrupt(
        self, number: signal.Signals, lines: int, *arguments: str | Path, out: str = "run"
    ) -> Finished | None:
        """Train and send the signal once the log has that many lines. None if the run ended before."""
        directory = RunDirectory(self.home / out)
        process = self.start("train", "--out", directory.path, *arguments)
        reached = process.wait_until(lambda: directory.logged_steps() >= lines, self.timeout)
        if reached:
            process.send(number)
        finished = process.wait(self.timeout)
        return finished if reached else None
