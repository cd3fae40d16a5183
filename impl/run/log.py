"""train_log.jsonl: one line a step, appended; on resume cut back to the step that is resumed from."""

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any


class TrainLog:
    """Append-only; `position` says how long the log was and what its bytes hashed to, for the checkpoint."""

    def __init__(self, path: Path, position: dict[str, Any] | None = None) -> None:
        """Continue at `position` (from the start if None); what follows it is dropped."""
        length = position["bytes"] if position else 0
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._digest = hashlib.sha256(self._file.read(length))
        self._length = length
        self._file.truncate(length)
        self._file.seek(length)

    def append(self, record: dict[str, Any]) -> None:
        """Write one line; it is with the operating system when this returns, so a killed process loses nothing."""
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        self._file.write(line)
        self._file.flush()
        self._digest.update(line)
        self._length += len(line)

    def position(self) -> dict[str, Any]:
        """Put the log on the disk; its length and digest so far."""
        os.fsync(self._file.fileno())
        return {"bytes": self._length, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> "TrainLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Every record; none if there is no file. A last line without its newline was never finished and is left out."""
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def starts_with(path: Path, position: dict[str, Any]) -> bool:
    """Whether the log at `path` still begins with what it was at `position`."""
    if not path.exists():
        return position["bytes"] == 0
    with path.open("rb") as file:
        start = file.read(position["bytes"])
    return len(start) == position["bytes"] and hashlib.sha256(start).hexdigest() == position["sha256"]


def with_hex(record: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The record plus the exact value of each named float, as `float.hex()`."""
    return {**record, "hex": {name: float(record[name]).hex() for name in names if name in record}}
