"""Start a subject, interrupt it, wait for its end; what it leaves is read by run_directory.py.

A subject of phase 18 is a module that offers the verbs of the command line (`python -m SUBJECT train ...`). It runs in
a process of its own, from the folder that its description names; nothing of it is ever imported here.
"""

import contextlib
import os
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

from fixtures.corpus import files
from gates.errors import GateError
from gates.subject.run_directory import RunDirectory
from honestloop.suite_location import ROOT

TIMEOUT = 300.0  # seconds; a cold compilation on a slow machine fits several times
POLL = 0.001

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
    stderr: str
    seconds: float

    def succeeded(self) -> "Finished":
        """Itself. GateError, with the last line it said, unless the status is 0."""
        if self.status != 0:
            last = (self.stderr.strip() or self.stdout.strip() or "(silent)").splitlines()[-1]
            raise GateError(f"`{self.command}` ended with status {self.status}: {last}")
        return self


class Killable(Protocol):
    """Something of a subject that runs."""

    def kill_all_of_it(self) -> None:
        """End it at once."""


class Process:
    """A running subject. Its output goes to files, so that no full pipe can stop it."""

    _running: ClassVar[set["Killable"]] = set()
    _no_more: ClassVar[bool] = False
    _lock = threading.Lock()

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: Path, talks: bool = False
    ) -> None:
        """Start it; one that `talks` has pipes. GateError if there is no such program, or the session is over."""
        self.command = shlex.join(argv).replace(shlex.quote(sys.executable), "python", 1)
        self._stdout, self._stderr = output.with_suffix(".out"), output.with_suffix(".err")
        self._started = time.monotonic()
        with self._lock, self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            if self._no_more:
                raise GateError("the session was ended before this run began")
            try:
                self._popen = subprocess.Popen(
                    argv,
                    cwd=cwd,
                    env=environment(env),
                    stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if talks else out,
                    stderr=err,
                    bufsize=0,
                    start_new_session=True,
                )
            except OSError as error:
                raise GateError(f"`{self.command}` could not be started: {error.strerror}") from None
            self._running.add(self)

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
        """Wait for the end. GateError if it takes too long; the process is then gone."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill_all_of_it()
            raise GateError(f"`{self.command}` did not end within {timeout:.0f} s") from None
        finally:
            with self._lock:
                self._running.discard(self)
        read = [path.read_text(encoding="utf-8", errors="replace") for path in (self._stdout, self._stderr)]
        return Finished(self.command, status, read[0], read[1], time.monotonic() - self._started)

    def wait_until(self, condition: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
        """Poll until the condition holds; False if the process ended first."""
        limit = time.monotonic() + timeout
        while not condition():
            if self._popen.poll() is not None:
                return condition()
            if time.monotonic() > limit:
                self.kill_all_of_it()
                raise GateError(
                    f"`{self.command}` did not come to the point of interruption within {timeout:.0f} s"
                )
            time.sleep(POLL)
        return True

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill_all_of_it(self) -> None:
        """SIGKILL to the process and to its children (they share a session)."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    @classmethod
    def remember(cls, other: Killable) -> None:
        """Something else that is to be ended with the session. GateError if that is over."""
        with cls._lock:
            if cls._no_more:
                raise GateError("the session was ended before this process began")
            cls._running.add(other)

    @classmethod
    def forget(cls, other: Killable) -> None:
        """It has ended."""
        with cls._lock:
            cls._running.discard(other)

    @classmethod
    def kill_the_rest(cls) -> None:
        """End whatever still runs, and start nothing more: the session is over."""
        with cls._lock:
            Process._no_more = True
            left = list(cls._running)
        for process in left:
            process.kill_all_of_it()


@dataclass
class Subject:
    """A module that can be trained, with the environment it runs in and the place for its output."""

    module: str
    home: Path
    env: Mapping[str, str] = field(default_factory=lambda: UNTRACKED)
    folder: Path = ROOT
    python: str = sys.executable

    def start(self, *arguments: str | Path) -> Process:
        """Start a verb and return at once."""
        self.home.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in self.home.glob("*.out"))
        output = self.home / f"{number:02d}-{arguments[0]}"
        argv = [self.python, "-m", self.module, *map(str, self.with_data(arguments))]
        return Process(argv, cwd=self.folder, env=self.env, output=output)

    def with_data(self, arguments: tuple[str | Path, ...]) -> tuple[str | Path, ...]:
        """A training is told where its data are: the committed corpus, unless something else is asked for."""
        told = arguments[0] != "train" or "--data" in arguments
        return arguments if told else (*arguments, "--data", files.COMMITTED)

    def run(self, *arguments: str | Path) -> Finished:
        """Start a verb and wait for its end, whatever its status."""
        return self.start(*arguments).wait()

    def train(self, *arguments: str | Path, out: str = "run") -> "RunDirectory":
        """Train, or go on training, into `home/out`. GateError unless the status is 0."""
        directory = RunDirectory(self.home / out)
        self.run("train", "--out", directory.path, *arguments).succeeded()
        return directory

    def interrupt(
        self, number: signal.Signals, lines: int, *arguments: str | Path, out: str = "run"
    ) -> Finished | None:
        """Train and send the signal once the log has that many lines. None if the run ended before."""
        directory = RunDirectory(self.home / out)
        process = self.start("train", "--out", directory.path, *arguments)
        reached = process.wait_until(lambda: directory.logged_steps() >= lines)
        if reached:
            process.send(number)
        finished = process.wait()
        return finished if reached else None
