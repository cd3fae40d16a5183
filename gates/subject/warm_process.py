"""`serve`: one process of a subject that stays, and answers its verbs one after the other over a pipe.

A question is one line of JSON on its standard input, `{"verb": "loss", "values": {"weights": "...", ...}}`, with the
values that the verb's command would have in braces. The answer, when the files are written, is one line of JSON on its
standard output, `{"status": 0}` or `{"status": 1, "error": "why"}`. It ends when its input does.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gates.errors import GateError
from gates.subject.process import UNTRACKED, Process, environment

ANSWER_LIMIT = 1 << 16  # bytes of one answer; tensors travel in files


class WarmProcess:
    """A process that answers. Use it in a `with`: at the end its input is closed, and what stays on is killed."""

    def __init__(self, argv: list[str], *, folder: Path, errors: Path, timeout: float) -> None:
        self._timeout, self._errors, self._read = timeout, errors, b""
        try:
            with errors.open("wb") as stderr:
                self._popen = subprocess.Popen(
                    argv,
                    cwd=folder,
                    env=environment(UNTRACKED),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                    bufsize=0,
                )
        except OSError as error:
            raise GateError(f"`serve` could not be started: {error.strerror}") from None
        try:
            Process.remember(self)
        except GateError:
            self.kill_all_of_it()
            raise

    def __enter__(self) -> "WarmProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, verb: str, values: Mapping[str, str]) -> None:
        """Have it answer one question. GateError, one line, if it cannot; it is then gone, unless it said so itself."""
        question = json.dumps({"verb": verb, "values": dict(values)}) + "\n"
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(question.encode())
        except OSError:
            raise self._broken(verb, "ended before it was asked") from None
        status, error = self._parsed(verb, self._line(verb))
        if status != 0:
            raise GateError(f"`serve` could not answer `{verb}`: {error}")

    def _line(self, verb: str) -> bytes:
        assert self._popen.stdout is not None
        descriptor, limit = self._popen.stdout.fileno(), time.monotonic() + self._timeout
        while b"\n" not in self._read:
            left = limit - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise self._broken(verb, f"did not answer within {self._timeout:.0f} s")
            if not (some := os.read(descriptor, ANSWER_LIMIT)):
                raise self._broken(verb, "ended without an answer")
            self._read += some
            if len(self._read) > ANSWER_LIMIT:
                raise self._broken(verb, f"answered with more than {ANSWER_LIMIT:,} bytes")
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _parsed(self, verb: str, line: bytes) -> tuple[int, str]:
        try:
            answer: Any = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if (
            not isinstance(answer, dict)
            or type(answer.get("status")) is not int
            or answer.keys() - {"status", "error"}
        ):
            said = line[:80].decode(errors="replace")
            raise self._broken(
                verb, f'answered {said!r}, expected {{"status": 0}} or a status and an "error"'
            )
        return answer["status"], " ".join(str(answer.get("error", "it does not say why")).split())[:300]

    def _broken(self, verb: str, what: str) -> GateError:
        """The error; nothing more can be asked after it, and the last line it said tells most."""
        self.kill_all_of_it()
        said = self._errors.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()
        return GateError(f"`serve`, asked for `{verb}`, {what}" + (f": {said[-1][:300]}" if said else ""))

    def close(self) -> None:
        """Close its input, and give it a moment to end."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(1.0)
        self.kill_all_of_it()

    def kill_all_of_it(self) -> None:
        """SIGKILL to it and its children, and the pipes closed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        Process.forget(self)
