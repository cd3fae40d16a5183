"""What a run left, read from its directory: the other way a gate touches what it judges."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gates.errors import GateError
from gates.subject import tensors
from honestloop import schemas
from reference.rules import RULES

SCHEMAS = {
    "results.json": "phase18_results",
    "data.json": "phase18_data",
    "tokenizer.json": "phase18_tokenizer",
    "drift/drift_results.json": "phase18_drift_results",
}
"""Files of a run of phase 18 whose form is known."""

LOG = "train_log.jsonl"


@dataclass(frozen=True)
class RunDirectory:
    """What a run left. Every reader raises GateError, naming the file, where it is missing or broken."""

    path: Path

    def file(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise GateError(f"run directory: {name} is missing")
        return path

    def read(self, name: str) -> bytes:
        return self.file(name).read_bytes()

    def json(self, name: str) -> Any:
        """The value in a file; of one that has a schema, only if it keeps it (the manifest has a check of its own)."""
        try:
            value = json.loads(self.read(name))
        except ValueError as error:
            raise GateError(f"run directory: {name} is not valid JSON ({error})") from None
        wrong = next(schemas.deviations(SCHEMAS[name], value), None) if name in SCHEMAS else None
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
            raise GateError(f"run directory: {name}: {error}") from None

    @property
    def config(self) -> str:
        """The settings that the run says it was given, as TOML."""
        return self.read("config.toml").decode()

    def logged_steps(self) -> int:
        """Number of whole lines of the log so far, 0 if there is none yet."""
        try:
            return (self.path / "train_log.jsonl").read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    @cached_property
    def log_lines(self) -> list[bytes]:
        """Lines of the training log, as bytes."""
        return self.read("train_log.jsonl").splitlines()

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Lines of the training log, parsed."""
        try:
            return [json.loads(line) for line in self.log_lines]
        except ValueError as error:
            raise GateError(f"run directory: train_log.jsonl is not valid JSON Lines ({error})") from None

    def checkpoints(self) -> dict[int, str]:
        """Step -> name of each checkpoint, in order. (Temporary names do not match and do not count.)"""
        found = {
            int(path.name.removeprefix("step-")): f"checkpoints/{path.name}"
            for path in (self.path / "checkpoints").glob("step-" + "[0-9]" * 8)
        }
        return dict(sorted(found.items()))

    def last_checkpoint(self) -> str:
        """Name of the checkpoint of the highest step."""
        found = self.checkpoints()
        if not found:
            raise GateError("run directory: checkpoints/ holds no checkpoint")
        return found[max(found)]

    @cached_property
    def model_name(self) -> str:
        """Name of the one final model file."""
        names = [
            f"models/{path.name}"
            for path in (self.path / "models").glob("minigpt-phase18-*.safetensors")
            if not path.name.endswith(".optim.safetensors")
        ]
        if len(names) != 1:
            raise GateError(f"run directory: models/ holds {len(names)} model files, expected one")
        return names[0]

    @cached_property
    def weights(self) -> dict[str, Any]:
        """Tensors of the final model file."""
        return self.tensors(self.model_name)
