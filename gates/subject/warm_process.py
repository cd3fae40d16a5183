"""`serve`: one process of a subject that stays, and answers its verbs one after the other over a pipe.

A question is one line of JSON on its standard input, `{"verb": "loss", "values": {"weights": "...", ...}}`, with the
values that the verb's command would have in braces. The answer, when the files are written, is one line of JSON on its
standard output, `{"status": 0}` or `{"status": 1, "error": "why"}`. It ends when its input does.
"""

import contextlib
import json
import os
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gates.errors import GateError
from gates.subject.process import UNTRACKED, Process

ANSWER_LIMIT = 1 << 16  # bytes of one answer; tensors travel in files


class WarmProcess:
    """A process that answers. Use it in a `with`: at the end its input is closed, and what stays on is killed."""

    def __init__(self, argv: list[str], *, folder: Path, errors: Path, timeout: float) -> None:
        """Start it. RunError if that cannot be done."""
        self._timeout, self._read = timeout, b""
        self._process = Process(argv, cwd=folder, env=UNTRACKED, output=errors, talks=True)

    def __enter__(self) -> "WarmProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, verb: str, values: Mapping[str, object]) -> None:
        """Have it answer one question. GateError, one line, if it cannot; it is then gone, unless it said so itself."""
        status, error = self.answer(verb, values)
        if status != 0:
            raise GateError(f"`serve` could not answer `{verb}`: {error}")

    def answer(self, verb: str, values: Mapping[str, object]) -> tuple[int, str]:
        """(status, error) of one question. GateError, one line, if there is no answer; the process is then gone."""
        question = json.dumps({"verb": verb, "values": dict(values)}, default=str) + "\n"
        try:
            self._process.input.write(question.encode())
            self._process.input.flush()
        except OSError:
            raise self._broken(verb, "ended before it was asked") from None
        return self._parsed(verb, self._line(verb))

    def _line(self, verb: str) -> bytes:
        descriptor, limit = self._process.output.fileno(), time.monotonic() + self._timeout
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
        return answer["status"], " ".join(str(answer.get("error", "")).split())[:300] or "it does not say why"

    def _broken(self, verb: str, what: str) -> GateError:
        """The error; nothing more can be asked after it, and the last line it said tells most."""
        self._process.kill_all_of_it()
        said = self._process.said()
        return GateError(f"`serve`, asked for `{verb}`, {what}" + (f": {said}" if said else ""))

    def close(self) -> None:
        """Close its input, and give it a moment to end."""
        with contextlib.suppress(OSError):
            self._process.input.close()
        with contextlib.suppress(GateError):
            self._process.wait(1.0)

    def kill(self) -> None:
        """End it at once, and whatever it started."""
        self._process.kill_all_of_it()
