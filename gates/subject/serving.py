"""The verbs of phase 18, answered by warm processes (warm_process.py), so that not every request starts one.

They are used where a fresh process proves nothing. What is about processes (a resume, a kill, what is imported) never
goes through them.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gates.errors import GateError
from gates.subject.process import TIMEOUT, Finished, Subject
from gates.subject.warm_process import WarmProcess
from honestloop.description import Description

MOST = 2  # as many as jobs run at a time


@dataclass
class Servers:
    """Warm processes of one subject, at most two, started when they are needed."""

    description: Description
    home: Path
    timeout: float = TIMEOUT
    _free: list[WarmProcess] = field(default_factory=list)
    _started: int = 0
    _lock: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def ask(self, verb: str, **values: object) -> Finished:
        """Have a free one answer: how the verb ended. GateError if it gave no answer; another one takes its place."""
        began = time.monotonic()
        with self._one() as server:
            status, error = server.answer(verb, values)
        said = " ".join(f"--{name} {value}" for name, value in values.items())
        return Finished(f"serve: {verb} {said}", status, "", error, time.monotonic() - began)

    @contextlib.contextmanager
    def _one(self) -> Iterator[WarmProcess]:
        with self._lock:
            while not self._free and self._started == MOST:
                self._lock.wait()
            if not self._free:
                self._free.append(self._start())
            server = self._free.pop()
        try:
            yield server
        except GateError:
            server.kill()
            with self._lock:
                self._started -= 1
                self._lock.notify()
            raise
        with self._lock:
            self._free.append(server)
            self._lock.notify()

    def _start(self) -> WarmProcess:
        self.home.mkdir(parents=True, exist_ok=True)
        self._started += 1
        return WarmProcess(
            self.description.argv("serve"),
            folder=self.description.folder,
            errors=self.home / f"serve-{self._started}",
            timeout=self.timeout,
        )


@dataclass
class WarmSubject(Subject):
    """A subject whose verbs are answered by a warm process; only what it is told to `start` is one of its own."""

    servers: Servers | None = None

    def run(self, *arguments: str | Path) -> Finished:
        """Have a verb answered, whatever its status."""
        assert self.servers is not None
        self.home.mkdir(parents=True, exist_ok=True)
        verb, *options = map(str, self.with_data(arguments))
        return self.servers.ask(verb, **values_of(options))


def values_of(options: list[str]) -> dict[str, object]:
    """Options of a command line as the values of a request: "--stop-after", "4" is stop_after = "4"."""
    values: dict[str, object] = {}
    for word in options:
        if word.startswith("--"):
            name = word.removeprefix("--").replace("-", "_")
            values[name] = True
        else:
            values[name] = word
    return values
