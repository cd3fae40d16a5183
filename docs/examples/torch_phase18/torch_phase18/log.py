"""train_log.jsonl: a line an update, appended; a resume cuts it back to where its checkpoint was written."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


class TrainLog:
    """`position` says how long the log is and what its bytes hash to, for the checkpoint."""

    def __init__(self, path: Path, position: dict[str, Any] | None) -> None:
        length = position["bytes"] if position else 0
        self.file = path.open("r+b" if path.exists() else "w+b")
        self.digest = hashlib.sha256(self.file.read(length))
        self.file.truncate(length)
        self.file.seek(length)

    def append(self, line: dict[str, Any]) -> None:
        """Write a line; the operating system has it when this returns."""
        data = (json.dumps(line, allow_nan=False) + "\n").encode()
        self.file.write(data)
        self.file.flush()
        self.digest.update(data)

    def position(self) -> dict[str, Any]:
        """Put the log on the disk; its length and digest."""
        os.fsync(self.file.fileno())
        return {"bytes": self.file.tell(), "sha256": self.digest.hexdigest()}


def lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line."""
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def begins_with(path: Path, position: dict[str, Any]) -> bool:
    """Whether the log still begins with what it was."""
    start = path.read_bytes()[: position["bytes"]] if path.exists() else b""
    return len(start) == position["bytes"] and hashlib.sha256(start).hexdigest() == position["sha256"]
