"""Checkpoints: a folder that is whole or absent, with a digest of every file in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from torch_phase18.errors import UsageError
from torch_phase18.files import read_json, sha256, sync_folder, to_json, write_synced

WEIGHTS, OPTIMIZER, STATE, MANIFEST = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)


def to_bytes(tensors: dict[str, Tensor]) -> bytes:
    """A safetensors file; equal tensors give equal bytes."""
    return safetensors.torch.save({name: x.detach().contiguous() for name, x in tensors.items()})


def from_bytes(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of a file. UsageError that names it if it is not whole."""
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise UsageError(f"{path}: not a safetensors file ({error})") from None


def save(
    folder: Path, run_id: str, step: int, weights: dict[str, Tensor], moments: dict[str, Tensor], state: Any
) -> None:
    """Write `folder`/step-XXXXXXXX under a temporary name; rename it when all of it is on the disk."""
    files = {WEIGHTS: to_bytes(weights), OPTIMIZER: to_bytes(moments), STATE: to_json(state)}
    digests = {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in files.items()}
    facts = {"schema": "honestloop/checkpoint/v1", "run_id": run_id, "step": step, "files": digests}
    files[MANIFEST] = to_json(facts)
    folder.mkdir(exist_ok=True)
    for left in folder.glob(".*.tmp"):  # by a process that was killed
        shutil.rmtree(left)
    final = folder / f"step-{step:08d}"
    temporary, old = (folder / f".{final.name}.{end}.tmp" for end in ("new", "old"))
    temporary.mkdir()
    for name, data in files.items():
        write_synced(temporary / name, data)
    sync_folder(temporary)
    if final.exists():  # it could not be resumed from
        final.rename(old)
    temporary.rename(final)
    sync_folder(folder)
    shutil.rmtree(old, ignore_errors=True)


def intact(folder: Path, run_id: str) -> Iterator[tuple[Any, dict[str, Tensor], dict[str, Tensor]] | str]:
    """(state, weights, moments) of each checkpoint, the newest first; a line of text for one that is not whole."""
    for path in sorted(folder.glob("step-????????"), reverse=True):
        try:
            yield _load(path, run_id)
        except UsageError as error:
            yield f"checkpoint skipped: {error}"


def _load(path: Path, run_id: str) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    manifest = read_json(path / MANIFEST)
    if manifest.get("run_id") != run_id or set(manifest.get("files", ())) != {WEIGHTS, OPTIMIZER, STATE}:
        raise UsageError(f"{path}: belongs to another run, or is incomplete")
    for name, entry in manifest["files"].items():
        if not (path / name).is_file() or sha256((path / name).read_bytes()) != entry["sha256"]:
            raise UsageError(f"{path / name}: its bytes are not the ones that were saved")
    tensors = [from_bytes(path / name, (path / name).read_bytes()) for name in (WEIGHTS, OPTIMIZER)]
    if not all(torch.isfinite(x).all() for found in tensors for x in found.values()):
        raise UsageError(f"{path}: has values that are not finite")
    return read_json(path / STATE), tensors[0], tensors[1]
