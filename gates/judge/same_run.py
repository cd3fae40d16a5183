"""Whether a run directory is another one, byte for byte, but for what its subject declares to differ.

    [run]
    may_differ = ["*.png", "manifest.json:started_at", "train_log.jsonl:seconds"]

A pattern with a colon names a field of a JSON file, or of every line of a JSON Lines file ("a.b": field b of object a);
one without, whole files. A pattern is held against the path in the run directory and against the file's name.

What a file is follows from its bytes and its name, and only to say where two files differ first: a tensor and an index,
a member of a zip, a field, a line, a byte. Nothing is unpickled, no link is followed.
"""

import json
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gates.subject import tensors
from gates.subject.guarded_copy import same_bytes
from gates.verdict.finding import Problem
from honestloop.guarded_files import read_regular

MOST = 1 << 26
"""Bytes of a file that is looked into to say where it differs; a larger one is compared all the same."""
BLOCK = 1 << 20
ABSENT = "(not there)"


@dataclass(frozen=True)
class Comparison:
    """How a run directory compares with the one it must equal."""

    files: int
    """Compared."""
    bytes: int
    missing: list[str] = field(default_factory=list)
    """Files of the other run that it does not have."""
    more: list[str] = field(default_factory=list)
    """Files that the other run does not have: a checkpoint where it was stopped, a temporary file of a save."""
    different: list[Problem] = field(default_factory=list)
    """The first difference of each file that differs."""
    declared: list[str] = field(default_factory=list)
    """The declarations that were needed: what they name is there."""

    @property
    def problems(self) -> list[Problem]:
        """What is missing or differs; more files are none."""
        lost = [Problem(f"{name} is missing", "no such file", "the file") for name in self.missing]
        return [*lost, *self.different]

    @property
    def summary(self) -> str:
        """What was compared, and what was declared to differ, in words."""
        said = f"{self.files} files, {self.bytes:,} bytes"
        return said + (f"; declared to differ: {', '.join(self.declared)}" if self.declared else "")


def compare(expected: Path, got: Path, may_differ: Sequence[str] = ()) -> Comparison:
    """Every file of `expected` must be in `got` with the same bytes, but for what may differ."""
    old, new = dict(_files(expected)), dict(_files(got))
    whole = [pattern for pattern in may_differ if ":" not in pattern]
    fields = [tuple(pattern.rsplit(":", 1)) for pattern in may_differ if ":" in pattern]
    result = Comparison(0, 0)
    declared = dict.fromkeys(may_differ, False)
    files = size = 0
    for name, path in old.items():
        if free := [pattern for pattern in whole if _matches(name, pattern)]:
            declared[free[0]] = True
            continue
        if name not in new:
            result.missing.append(name)
            continue
        ignored = [item for item in fields if _matches(name, item[0])]
        declared.update({":".join(item): True for item in ignored})
        files, size = files + 1, size + os.lstat(path).st_size
        if found := _difference(name, path, new[name], [item[1] for item in ignored]):
            result.different.append(found)
    result.more.extend(
        name for name in new if name not in old and not any(_matches(name, pattern) for pattern in whole)
    )
    needed = [pattern for pattern, there in declared.items() if there]
    return Comparison(files, size, result.missing, result.more, result.different, needed)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of everything that is no folder."""
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(PurePosixPath(name).name, pattern)


def _difference(name: str, expected: Path, got: Path, ignored: Sequence[str]) -> Problem | None:
    """The first difference of two files; of JSON without some fields."""
    kinds = [_kind(path) for path in (got, expected)]
    if kinds[0] != kinds[1]:
        return Problem(f"{name}: what it is", *kinds)
    if kinds[0] != "a file":
        shown = [os.readlink(path) if kinds[0] == "a link" else "" for path in (got, expected)]
        return Problem(f"{name}: where the link leads", *shown) if shown[0] != shown[1] else None
    if same_bytes(expected, got):
        return None
    if max(expected.stat().st_size, got.stat().st_size) > MOST:
        return Problem(
            f"{name}: bytes", f"{got.stat().st_size:,} bytes", f"{expected.stat().st_size:,} others"
        )
    old, new = read_regular(expected), read_regular(got)
    return _in_bytes(name, old, new, ignored)


def _kind(path: Path) -> str:
    mode = os.lstat(path).st_mode
    return "a link" if stat.S_ISLNK(mode) else "a file" if stat.S_ISREG(mode) else "no regular file"


def _in_bytes(name: str, old: bytes, new: bytes, ignored: Sequence[str] = ()) -> Problem | None:
    """Where two different contents differ first, in the words of their format."""
    suffix = PurePosixPath(name).suffix
    try:
        if suffix == ".jsonl":
            return _in_lines(name, old, new, ignored)
        if suffix == ".json":
            return _in_values(name, json.loads(old), json.loads(new), ignored, strict=not ignored)
        if suffix == ".safetensors":
            return _in_tensors(name, tensors.read(old), tensors.read(new)) or _in_plain(name, old, new)
        if old[:4] == new[:4] == b"PK\x03\x04":
            return _in_zip(name, old, new) or _in_plain(name, old, new)
        if old[:6] == new[:6] == b"\x93NUMPY":
            return _in_tensors(name, {"": _array(old)}, {"": _array(new)}) or _in_plain(name, old, new)
    except (ValueError, LookupError, RecursionError, zipfile.BadZipFile, NotImplementedError, EOFError):
        pass  # not what its name says: bytes
    return _in_plain(name, old, new)


def _in_lines(name: str, old: bytes, new: bytes, ignored: Sequence[str]) -> Problem | None:
    first, second = old.splitlines(keepends=True), new.splitlines(keepends=True)
    for number, (a, b) in enumerate(zip(first, second, strict=False), 1):
        if a != b:
            where = f"{name} line {number}"
            found = _in_values(where, json.loads(a), json.loads(b), ignored, strict=not ignored)
            if found:
                return found
    if len(first) != len(second):
        return Problem(f"{name}: how long it is", f"{len(second)} lines", f"{len(first)} lines")
    return None


def _in_values(name: str, old: Any, new: Any, ignored: Sequence[str], *, strict: bool) -> Problem | None:
    """The first field that differs; if none does, the way it is written, which `strict` compares too."""
    for path in ignored:
        old, new = _without(old, path.split(".")), _without(new, path.split("."))
    found = next(_leaves("", old, new), None)
    if found is None:
        return Problem(f"{name}: how it is written", "other bytes", "equal bytes") if strict else None
    return Problem(f"{name} field {found[0]}" if found[0] else name, *found[1:])


def _without(value: Any, path: Sequence[str]) -> Any:
    """A JSON value without a field; in a list, of each of its elements."""
    if isinstance(value, list):
        return [_without(element, path) for element in value]
    if not isinstance(value, dict):
        return value
    if len(path) == 1:
        return {key: inner for key, inner in value.items() if not fnmatchcase(key, path[0])}
    return {
        key: _without(inner, path[1:]) if fnmatchcase(key, path[0]) else inner for key, inner in value.items()
    }


def _leaves(place: str, old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """(place, got, expected) of every leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _leaves(f"{place}.{key}".lstrip("."), old.get(key, ABSENT), new.get(key, ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _leaves(f"{place}[{number}]", a, b)
    elif json.dumps(old) != json.dumps(new):  # 1 is not 1.0, NaN is NaN
        yield place, _shown(new), _shown(old)


def _shown(value: Any) -> str:
    return value if value == ABSENT else json.dumps(value)


def _in_zip(name: str, old: bytes, new: bytes) -> Problem | None:
    """Of two zips, what torch.save and np.savez write: the first member that differs."""
    with zipfile.ZipFile(BytesIO(old)) as first, zipfile.ZipFile(BytesIO(new)) as second:
        names = first.namelist(), second.namelist()
        if names[0] != names[1]:
            return Problem(f"{name}: its members", *(", ".join(n)[:200] for n in reversed(names)))
        for member in names[0]:
            if max(first.getinfo(member).file_size, second.getinfo(member).file_size) > MOST:
                continue
            a, b = first.read(member), second.read(member)
            if a != b:
                return _in_bytes(f"{name} member {member}", a, b)
    return Problem(f"{name}: the zip around its members", "other time stamps or sizes", "equal bytes")


def _array(data: bytes) -> np.ndarray:
    """A .npy file. ValueError if it holds objects."""
    return np.lib.format.read_array(BytesIO(data), allow_pickle=False)


def _in_tensors(name: str, old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> Problem | None:
    for tensor in dict.fromkeys([*old, *new]):
        a, b = old.get(tensor), new.get(tensor)
        where = f"{name} tensor {tensor}" if tensor else name
        if a is None or b is None or (a.dtype, a.shape) != (b.dtype, b.shape):
            return Problem(where, _form(b), _form(a))
        if a.dtype.kind not in "fiub":
            continue
        index = tensors.first_difference(a, b) if a.dtype.itemsize <= 8 else None
        if index is not None:
            return Problem(
                f"{where}[{', '.join(map(str, index))}]", repr(b[index].item()), repr(a[index].item())
            )
    return None


def _form(array: np.ndarray | None) -> str:
    return ABSENT if array is None else f"{array.dtype} {list(array.shape)}"


def _in_plain(name: str, old: bytes, new: bytes) -> Problem:
    """The first line that differs, of text; else the first byte."""
    common = min(len(old), len(new))
    a, b = np.frombuffer(old, "u1", common), np.frombuffer(new, "u1", common)
    different = np.flatnonzero(a != b)
    at = int(different[0]) if len(different) else common
    try:
        lines = [data.decode("utf-8").splitlines() for data in (new, old)]
    except UnicodeDecodeError:
        shown = [data[at : at + 8].hex(" ") or "the end" for data in (new, old)]
        return Problem(f"{name} byte {at}", *shown)
    number = old[:at].count(b"\n")
    shown = [text[number] if number < len(text) else "the end" for text in lines]
    return Problem(f"{name} line {number + 1}", *shown)
