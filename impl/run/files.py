"""Files that are whole or absent: atomic writes, digests, JSON.

A reader never sees half a file: bytes go to a temporary name in the same directory, are fsynced, take the final
name by rename, and the directory is fsynced so that the name itself survives a power cut.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import rfc8785

from impl.errors import UsageError


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of the file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and fsync its contents (for files inside a directory that is itself renamed into place)."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def atomic_write(path: Path, data: bytes) -> None:
    """Give `path` the contents `data`, or leave what was there untouched."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_synced(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def json_bytes(value: Any) -> bytes:
    """Indented JSON, UTF-8, keys in the order given; NaN and infinity are refused (they are not JSON)."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value (RFC 8785), for hashing."""
    return rfc8785.dumps(value)


def write_json(path: Path, value: Any) -> None:
    """Atomically write `value` as indented JSON."""
    atomic_write(path, json_bytes(value))


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises UsageError, naming the file, if it is missing, no file or broken."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid JSON ({error})") from None
