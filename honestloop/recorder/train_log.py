"""train_log.jsonl: one line an update, written at once; cut back on resume to the update that is resumed from."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from honestloop.guarded_files import open_regular
from honestloop.recorder.errors import RecorderError


class TrainLog:
    """Append-only from `position`, {"bytes", "sha256", "step"}; what follows it in the file is dropped."""

    def __init__(self, path: Path, position: Mapping[str, Any] | None = None) -> None:
        length = position["bytes"] if position else 0
        self.step = position["step"] if position else 0
        self._path, self._length = path, length
        with path.open("r+b" if path.exists() else "w+b") as file:
            self._digest = hashlib.sha256(file.read(length))
            file.truncate(length)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write the line of the next update; it is with the operating system when this returns.

        RecorderError if `step` is not the next one, or if a number is not finite: JSON has neither NaN nor infinity.
        """
        line = {name: plain(value, name) for name, value in record.items()}
        if line["step"] != self.step + 1:
            raise RecorderError(f"log: step {line['step']} does not follow step {self.step}")
        data = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode()
        with self._path.open(
            "ab"
        ) as file:  # opened for each line: a loop that ends early leaves nothing open
            file.write(data)
        self._digest.update(data)
        self._length += len(data)
        self.step += 1

    def position(self) -> dict[str, Any]:
        """Put the log on the disk; how long it is, and what its bytes hash to."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        return {"step": self.step, "bytes": self._length, "sha256": self._digest.hexdigest()}


def starts_with(path: Path, position: Mapping[str, Any]) -> bool:
    """Whether the log still begins with what it was at `position`."""
    if position["bytes"] == 0:
        return True
    with open_regular(path) as file:
        start = file.read(position["bytes"])
    return len(start) == position["bytes"] and hashlib.sha256(start).hexdigest() == position["sha256"]


def plain(value: Any, name: str) -> Any:
    """A value of a log line as JSON has it; scalars of NumPy, PyTorch and JAX become Python's.

    RecorderError, naming the field, for a number that is not finite and for what is no value of JSON.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(x, name) for x in value]
    if isinstance(value, Mapping):
        return {str(key): plain(x, f"{name}.{key}") for key, x in value.items()}
    if hasattr(value, "tolist") and not isinstance(value, int | float):  # an array
        return plain(value.tolist(), name)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RecorderError(f"log: {name} is {value}: nothing that is not finite is kept")
        return float(value)
    raise RecorderError(f"log: {name}: a {type(value).__name__} is no value of JSON")
