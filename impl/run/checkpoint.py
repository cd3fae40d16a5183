"""Checkpoints: the state machines on disk, whole or absent, with a digest of every file.

A checkpoint is a directory, filled under a temporary name and renamed into place when every file in it is on the
disk. The arrays of each machine are in a file of its own, its other state is in state.json. `newest` trusts none: it
takes the last one that is complete, unaltered and fits the log.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np

from impl.errors import UsageError
from impl.run import tensors
from impl.run.clock import ZERO_TIME, Spent
from impl.run.files import fsync_directory, json_bytes, read_json, sha256_bytes, sha256_file, write_synced

Array = np.ndarray[Any, np.dtype[Any]]

SCHEMA = "honestloop/checkpoint/v1"
WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
STATE, MANIFEST = "state.json", "manifest.json"
NAME = re.compile("step-([0-9]{8,})")


class Best(TypedDict):
    """The lowest validation loss so far, and the step it was seen at."""

    step: int
    val_loss: float


class StateMachine(Protocol):
    """What can be saved: numbers, strings and arrays by name."""

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, copied."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: one state a machine, and what the loop keeps beside them."""

    path: Path
    step: int
    machines: dict[str, dict[str, Any]]
    log: dict[str, Any]
    best: Best | None
    spent: Spent


def save(
    folder: Path,
    run_id: str,
    step: int,
    machines: Mapping[str, StateMachine],
    log: dict[str, Any],
    best: Best | None,
    spent: Spent = ZERO_TIME,
) -> Path:
    """Write `folder`/step-XXXXXXXX; an existing checkpoint of that step stays until the new one is complete.

    The time that the run has taken goes into the manifest: the other files of an uninterrupted run and of a resumed one
    are equal to the byte.
    """
    states = {name: machine.state() for name, machine in machines.items()}
    scalars = {name: _scalars(state) for name, state in states.items() if name != "model"}
    files = {
        file_of(name): tensors.to_bytes(arrays)
        for name, state in states.items()
        if (arrays := _arrays(state))
    }
    files[STATE] = json_bytes({"step": step, "machines": scalars, "log": log, "best": best})
    digests = {name: {"sha256": sha256_bytes(data), "bytes": len(data)} for name, data in files.items()}
    facts = {"schema": SCHEMA, "run_id": run_id, "step": step, "spent": spent.as_dict()}
    files[MANIFEST] = json_bytes({**facts, "digest": sha256_bytes(json_bytes(facts)), "files": digests})
    folder.mkdir(exist_ok=True)
    final = folder / f"step-{step:08d}"
    for leftover in folder.glob(".step-*.tmp"):  # of a killed process: the lock of the run keeps others out
        shutil.rmtree(leftover)
    temporary, replaced = (folder / f".{final.name}.{end}.tmp" for end in ("new", "old"))
    try:
        temporary.mkdir()
        for name, data in files.items():
            write_synced(temporary / name, data)
        fsync_directory(temporary)
        if final.exists():  # it could not be resumed from; it is kept aside until the new one has its name
            final.rename(replaced)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_directory(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def remove_all_but(folder: Path, step: int) -> None:
    """Leave the checkpoint of this step alone in the folder."""
    for path in by_step(folder):
        if path.name != f"step-{step:08d}":
            shutil.rmtree(path)


def newest(
    folder: Path,
    expected: "Expected",
    fits_log: Callable[[dict[str, Any]], bool],
    report: Callable[[str], None],
) -> Checkpoint | None:
    """The last checkpoint that can be trusted, or None; each one that cannot is reported in one line."""
    for path in by_step(folder):
        try:
            checkpoint = load(path, expected)
        except UsageError as error:
            report(f"checkpoint skipped: {error}")
            continue
        if fits_log(checkpoint.log):
            return checkpoint
        report(f"checkpoint skipped: {path}: train_log.jsonl is not the log it was written with")
    return None


def by_step(folder: Path) -> list[Path]:
    """What has the name of a checkpoint, the largest number first: from 10^8 updates on it has more than 8 digits."""
    numbered = [(int(m[1]), path) for path in folder.glob("step-*") if (m := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered, reverse=True)]


@dataclass(frozen=True)
class Expected:
    """What a run's checkpoints must hold: of each machine that keeps arrays, their names, shapes and types."""

    run_id: str
    arrays: Mapping[str, Mapping[str, Array]]

    @classmethod
    def of(cls, run_id: str, machines: Mapping[str, StateMachine]) -> "Expected":
        """What these machines would save, whatever the values."""
        states = {name: _arrays(machine.state()) for name, machine in machines.items()}
        return cls(run_id, {name: arrays for name, arrays in states.items() if arrays})


def load(path: Path, expected: Expected) -> Checkpoint:
    """Read and verify one checkpoint. Raises UsageError naming the file that is missing, altered or foreign."""
    manifest = read_json(path / MANIFEST)
    try:
        _verify_digests(path, manifest, expected)
        state = read_json(path / STATE)
        machines, step = dict(state["machines"]), int(state["step"])
        log, best, spent = dict(state["log"]), state["best"], Spent.of(manifest["spent"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: malformed ({error!r})") from None
    for name, arrays in expected.arrays.items():
        file = path / file_of(name)
        found = tensors.from_file(file)
        tensors.require(found, arrays, file)
        machines[name] = machines.get(name, {}) | found
    return Checkpoint(path, step, machines, log, best, spent)


def file_of(machine: str) -> str:
    """The name of the file with the arrays of a machine."""
    return {"model": WEIGHTS, "optimizer": OPTIMIZER}.get(machine, f"{machine}.safetensors")


def _verify_digests(path: Path, manifest: dict[str, Any], expected: Expected) -> None:
    """UsageError unless each file is the one that was saved, and the manifest too: its facts have a digest as well."""
    facts = {name: manifest[name] for name in ("schema", "run_id", "step", "spent")}
    changed = manifest.keys() != {*facts, "digest", "files"}
    if changed or manifest["digest"] != sha256_bytes(json_bytes(facts)):
        raise UsageError(f"{path / MANIFEST}: its bytes are not the ones that were saved")
    if manifest["schema"] != SCHEMA or manifest["run_id"] != expected.run_id:
        raise UsageError(f"{path}: belongs to run {manifest['run_id']}, not {expected.run_id}")
    if set(manifest["files"]) != {*map(file_of, expected.arrays), STATE}:
        raise UsageError(f"{path}: its manifest lists {sorted(manifest['files'])}")
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
        if entry != {"sha256": sha256_file(file), "bytes": file.stat().st_size}:
            raise UsageError(f"{file}: its bytes are not the ones that were saved")


def _arrays(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if isinstance(value, np.ndarray)}


def _scalars(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not isinstance(value, np.ndarray)}
