"""The verb `serve`: a warm process that answers requests, each a line of JSON, so that not every one starts a process.

    {"verb": "logits", "values": {"run": "...", "tokens": "...", "out": "..."}}      ->  {"status": 0}
    {"verb": "train", "values": {"out": "...", "stop_after": 4, "resume": true}}     ->  {"status": 2, "error": "..."}

It is used where a fresh process proves nothing. What is about processes (a resume, a kill, what is imported) never goes
through it.
"""

import contextlib
import json
import select
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gates.errors import GateError
from gates.subject.process import TIMEOUT, UNTRACKED, Finished, Process, Subject
from honestloop.description import Description

MOST = 2  # as many as jobs run at a time
LONGEST = 1 << 16  # bytes of an answer


class Server(Process):
    """A running `serve`."""

    def ask(self, verb: str, values: Mapping[str, object], timeout: float = TIMEOUT) -> Finished:
        """Have one request answered. GateError if the process ends, is late, or says something else."""
        began = time.monotonic()
        request = {"verb": verb, "values": {name: _plain(value) for name, value in values.items()}}
        try:
            self.input.write(json.dumps(request).encode() + b"\n")
            self.input.flush()
        except OSError:
            raise GateError(f"`{self.command}` ended before it was asked for {verb}") from None
        answer = self._read_answer(verb, began + timeout)
        said = " ".join(f"--{name} {value}" for name, value in values.items())
        error = str(answer.get("error", ""))
        return Finished(f"serve: {verb} {said}", answer["status"], "", error, time.monotonic() - began)

    def _read_answer(self, verb: str, limit: float) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n"):
            left = limit - time.monotonic()
            if left <= 0 or len(line) > LONGEST or not select.select([self.output], [], [], left)[0]:
                self.kill_all_of_it()
                raise GateError(f"`{self.command}` did not answer {verb} in a line within {TIMEOUT:.0f} s")
            if not (read := self.output.read(1)):
                raise GateError(f"`{self.command}` ended while it was asked for {verb}")
            line += read
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or type(answer.get("status")) is not int:
            raise GateError(f"`{self.command}` answered {line[:80]!r}, not a line like {{'status': 0}}")
        return answer


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


@dataclass
class Servers:
    """Warm processes of one subject, at most two, started when they are needed."""

    description: Description
    home: Path
    _free: list[Server] = field(default_factory=list)
    _started: int = 0
    _lock: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def ask(self, verb: str, **values: object) -> Finished:
        """Have a free one answer; its answer."""
        with self._one() as server:
            return server.ask(verb, values)

    @contextlib.contextmanager
    def _one(self) -> Iterator[Server]:
        with self._lock:
            while not self._free and self._started == MOST:
                self._lock.wait()
            if not self._free:
                self._free.append(self._start())
            server = self._free.pop()
        try:
            yield server
        except GateError:
            server.kill_all_of_it()
            with self._lock:
                self._started -= 1
                self._lock.notify()
            raise
        with self._lock:
            self._free.append(server)
            self._lock.notify()

    def _start(self) -> Server:
        self.home.mkdir(parents=True, exist_ok=True)
        self._started += 1
        output = self.home / f"serve-{self._started}"
        return Server(
            self.description.argv("serve"),
            cwd=self.description.folder,
            env=UNTRACKED,
            output=output,
            talks=True,
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
