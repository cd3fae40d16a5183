"""What a run left, read from its directory: the other way a gate touches what it judges."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gates.errors import GateError
from gates.subject import tensors
from gates.subject.guarded_copy import DEPTH_LIMIT, FILES_LIMIT, copy_tree
from honestloop import schemas
from honestloop.guarded_files import (
    FILE_LIMIT,
    UnreadableError,
    names_in,
    open_regular,
    parse_json,
    printable,
    read_regular,
)
from reference.rules import RULES

SCHEMAS = {
    "results.json": "phase18_results",
    "data.json": "phase18_data",
    "tokenizer.json": "phase18_tokenizer",
    "drift/drift_results.json": "phase18_drift_results",
}
"""Files of a run of phase 18 whose form is known."""
LOG_LIMIT = 1 << 28
"""Bytes of a training log."""
"""Of a whole run directory: folders within folders, files, bytes."""
CHECKPOINT = re.compile("step-([0-9]{8})")
MODEL = re.compile(r"minigpt-phase18-.*\.safetensors")

LOG = "train_log.jsonl"


@dataclass(frozen=True)
class RunDirectory:
    """What a run left. Every reader raises GateError, naming the file, where it is missing, broken or no plain file."""

    path: Path
    forms: Mapping[str, str] = field(default_factory=SCHEMAS.copy, compare=False, repr=False)
    """File -> its schema, of those that are held to one when they are read."""

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        try:
            return read_regular(self.path / name, limit, within=self.path.parent)
        except UnreadableError as error:
            raise self._unreadable(name, error) from None

    def json(self, name: str) -> Any:
        """The value in a file; of one that has a schema, only if it keeps it (the manifest has a check of its own)."""
        data = self.read(name)
        try:
            value = parse_json(data, self.path / name)
        except UnreadableError as error:
            raise GateError(f"run directory: {printable(name)} is not valid JSON ({error.found})") from None
        wrong = next(schemas.deviations(self.forms[name], value), None) if name in self.forms else None
        if wrong is not None:
            raise GateError(
                f"run directory: {name}: {wrong.field}: found {wrong.found}, expected {wrong.expected} "
                f"({RULES['DIR-01'].address})"
            )
        return value

    def tensors(self, name: str) -> dict[str, Any]:
        try:
            return tensors.read(self.read(name))
        except tensors.TensorFileError as error:
            raise GateError(f"run directory: {printable(name)}: {error}") from None

    @property
    def config(self) -> str:
        """The settings that the run says it was given, as TOML."""
        try:
            return self.read("config.toml").decode()
        except UnicodeDecodeError as error:
            raise GateError(f"run directory: config.toml is not UTF-8 ({error.reason})") from None

    def logged_steps(self) -> int:
        """Number of whole lines of the log so far, 0 if there is none yet."""
        path = self.path / "train_log.jsonl"
        if not path.is_symlink() and not path.exists():
            return 0
        try:
            with open_regular(path, LOG_LIMIT, within=self.path.parent) as file:
                return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        except UnreadableError as error:
            raise self._unreadable("train_log.jsonl", error) from None

    @cached_property
    def log_lines(self) -> list[bytes]:
        """Lines of the training log, as bytes."""
        return self.read("train_log.jsonl", LOG_LIMIT).splitlines()

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Lines of the training log, parsed."""
        name = "train_log.jsonl"
        try:
            return [parse_json(line, self.path / name) for line in self.log_lines]
        except UnreadableError as error:
            raise GateError(f"run directory: {name} is not valid JSON Lines ({error.found})") from None

    def names(self, folder: str) -> list[str]:
        """What lies in a folder, sorted; nothing if there is none."""
        try:
            return names_in(self.path / folder)
        except UnreadableError as error:
            raise self._unreadable(folder, error) from None

    def files(self) -> Iterator[Path]:
        """Every file of the directory and of its folders, and all else that is no folder; no link is followed."""
        waiting, count = [self.path], 0
        while waiting:
            folder = waiting.pop()
            if len(folder.relative_to(self.path).parts) > DEPTH_LIMIT:
                raise GateError(f"run directory: found folders more than {DEPTH_LIMIT} deep, expected fewer")
            for name in self.names(str(folder.relative_to(self.path))):
                path = folder / name
                if path.is_dir() and not path.is_symlink():
                    waiting.append(path)
                else:
                    yield path
                if (count := count + 1) > FILES_LIMIT:
                    raise GateError(f"run directory: found more than {FILES_LIMIT:,} files, expected fewer")

    def copy_to(self, target: Path) -> "RunDirectory":
        """A copy of the directory, to be changed. GateError if it is too large, or holds what is no plain file."""
        return RunDirectory(copy_tree(self.path, target, links=False))

    def checkpoints(self) -> dict[int, str]:
        """Step -> name of each checkpoint, in order. (Temporary names do not match and do not count.)"""
        found = [CHECKPOINT.fullmatch(name) for name in self.names("checkpoints")]
        return {int(match[1]): f"checkpoints/{match[0]}" for match in found if match}

    def last_checkpoint(self) -> str:
        """Name of the checkpoint of the highest step."""
        found = self.checkpoints()
        if not found:
            raise GateError("run directory: checkpoints/ holds no checkpoint")
        return found[max(found)]

    def _unreadable(self, name: str, error: UnreadableError) -> GateError:
        if error.found == "no such file":
            return GateError(f"run directory: {printable(name)} is missing")
        return GateError(f"run directory: {printable(name)}: found {error.found}, expected {error.expected}")

    @cached_property
    def model_name(self) -> str:
        """Name of the one final model file."""
        names = [
            f"models/{name}"
            for name in self.names("models")
            if MODEL.fullmatch(name) and not name.endswith(".optim.safetensors")
        ]
        if len(names) != 1:
            raise GateError(f"run directory: models/ holds {len(names)} model files, expected one")
        return names[0]

    @cached_property
    def weights(self) -> dict[str, Any]:
        """Tensors of the final model file."""
        return self.tensors(self.model_name)
