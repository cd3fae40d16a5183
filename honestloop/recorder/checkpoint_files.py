"""A checkpoint on disk: a folder that is there as a whole or not at all, with the digest of every file in it."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from honestloop.atomic_write import sync_folder
from honestloop.guarded_files import (
    FILE_LIMIT,
    UnreadableError,
    names_in,
    parse_json,
    read_json,
    read_regular,
)

STATE, MANIFEST = "state.json", "manifest.json"
NAME = re.compile(r"step-([0-9]{8,})")
LARGEST = 16 * FILE_LIMIT
"""Bytes of a file of a checkpoint."""


@dataclass(frozen=True)
class Stored:
    """A checkpoint whose digests were right: the bytes of its files by name, and state.json parsed."""

    path: Path
    files: Mapping[str, bytes]
    state: dict[str, Any]


def write(folder: Path, step: int, files: Mapping[str, bytes], state: Mapping[str, Any]) -> Path:
    """Write `folder`/step-XXXXXXXX. OSError if that fails; an older checkpoint of that step is then still there."""
    contents = {**files, STATE: json_bytes(state)}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    contents[MANIFEST] = json_bytes({"files": digests})
    folder.mkdir(exist_ok=True)
    final = folder / f"step-{step:08d}"
    for leftover in folder.glob(".step-*.tmp"):  # of a process that was killed
        shutil.rmtree(leftover)
    temporary, replaced = (folder / f".{final.name}.{end}.tmp" for end in ("new", "old"))
    try:
        temporary.mkdir()
        for name, data in contents.items():
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(temporary)
        if final.exists():  # one that could not be resumed from
            final.rename(replaced)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def read(path: Path) -> Stored:
    """A checkpoint, read once and checked against its digests. UnreadableError, naming the file, if it is torn."""
    said = read_json(path / MANIFEST, within=path)
    listed = said.get("files") if isinstance(said, dict) else None
    if not isinstance(listed, dict) or STATE not in listed:
        raise UnreadableError(
            path / MANIFEST, "no digests of the files", 'an object "files" that names state.json'
        )
    files = {}
    for name, digest in listed.items():
        if Path(name).name != name:
            raise UnreadableError(path / MANIFEST, f"the name {name!r}", "a file of this folder")
        files[name] = read_regular(path / name, LARGEST, within=path)
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise UnreadableError(path / name, "other bytes than were saved", f"SHA-256 {digest}")
    state = parse_json(files.pop(STATE), path / STATE)
    if not isinstance(state, dict):
        raise UnreadableError(path / STATE, "no object", "an object")
    return Stored(path, files, state)


def steps(folder: Path) -> list[int]:
    """The steps whose checkpoints have their final name, the newest first."""
    return sorted(
        (int(found[1]) for name in names_in(folder) if (found := NAME.fullmatch(name))), reverse=True
    )


def json_bytes(value: Any) -> bytes:
    """Indented JSON in UTF-8, in the order given. ValueError for NaN and infinity, which JSON has not."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
