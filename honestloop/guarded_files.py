"""Read files that somebody else left: only regular files, no links followed, with limits of size, depth and number.

A run directory may hold anything: a FIFO that never answers, a link out of the directory, a sparse terabyte, JSON
nested a million deep. Every reader here returns soon or raises `UnreadableError`, one line that says which file, what
was found there and what was expected.

Opening never waits (O_NONBLOCK), never follows a link (O_NOFOLLOW, for the file and, with `within`, for each folder on
the way to it), and what was opened is looked at, not what had the name a moment before.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

FILE_LIMIT = 1 << 30
"""Bytes of a file that is read at once."""
JSON_LIMIT = 64 << 20
"""Bytes of a JSON file."""
DEPTH_LIMIT = 64
"""Levels of arrays and objects in a JSON file."""
NAMES_LIMIT = 100_000
"""Names in a folder."""

_OPEN_FLAGS = os.O_RDONLY
for _flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):  # not every system has each
    _OPEN_FLAGS |= getattr(os, _flag, 0)
_FOLDER_FLAGS = _OPEN_FLAGS | getattr(os, "O_DIRECTORY", 0)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# A string, to the end of the text if it is never closed, or one bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


class UnreadableError(ValueError):
    """A file that is not read: `path`, what was `found`, what was `expected`; its text is one line of the three."""

    def __init__(self, path: Path, found: str, expected: str) -> None:
        super().__init__(f"{printable(path)}: found {found}, expected {expected}")
        self.path, self.found, self.expected = path, found, expected


def read_regular(path: Path, limit: int = FILE_LIMIT, *, within: Path | None = None) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. UnreadableError otherwise; it never waits.

    `within`: a folder above the file; no folder between the two may be a link. What the name of `within` itself
    leads through is the caller's.
    """
    with open_regular(path, limit, within=within) as file:
        data = file.read(limit + 1)
    if len(data) > limit:  # it has grown
        raise UnreadableError(path, f"more than {limit:,} bytes", f"at most {limit:,} bytes")
    return data


def read_json(
    path: Path, limit: int = JSON_LIMIT, depth: int = DEPTH_LIMIT, *, within: Path | None = None
) -> Any:
    """The value in a JSON file: UTF-8, no key twice, nested at most `depth` levels. UnreadableError otherwise.

    NaN, Infinity and numbers too large for a float are read as floats that are not finite, so that whoever checks the
    fields can name the one.
    """
    return parse_json(read_regular(path, limit, within=within), path, depth)


def parse_json(data: bytes, path: Path, depth: int = DEPTH_LIMIT) -> Any:
    """The value that these bytes of the file `path` are, as `read_json` reads it."""
    if is_deeper(data, depth):
        raise UnreadableError(path, f"JSON nested more than {depth} levels deep", f"at most {depth} levels")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        raise UnreadableError(path, f"a byte that is not UTF-8 at {error.start}", "JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise UnreadableError(path, f"{error.msg[:1].lower()}{error.msg[1:]} at {place}", "JSON") from None
    except ValueError as error:  # a key that stands twice, an integer of thousands of digits
        raise UnreadableError(path, str(error), "JSON") from None
    except RecursionError:
        raise UnreadableError(path, "JSON that is nested too deep to be read", "fewer levels") from None


def read_toml(path: Path, limit: int = JSON_LIMIT, *, within: Path | None = None) -> dict[str, Any]:
    """The table in a TOML file. UnreadableError if it is none."""
    data = read_regular(path, limit, within=within)
    if is_deeper(data, DEPTH_LIMIT):
        raise UnreadableError(path, f"TOML nested more than {DEPTH_LIMIT} levels deep", "fewer levels")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(path, f"{one_line(error)}", "TOML in UTF-8") from None


def sha256_regular(path: Path, limit: int = FILE_LIMIT, *, within: Path | None = None) -> str:
    """SHA-256 of a regular file, 64 hexadecimal digits, without holding it in memory. UnreadableError as above."""
    digest, left = hashlib.sha256(), limit
    with open_regular(path, limit, within=within) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            left -= len(block)
            if left < 0:
                raise UnreadableError(path, f"more than {limit:,} bytes", f"at most {limit:,} bytes")
    return digest.hexdigest()


@contextlib.contextmanager
def open_regular(path: Path, limit: int = FILE_LIMIT, *, within: Path | None = None) -> Iterator[BinaryIO]:
    """The file, opened for reading, if it is a regular file of at most `limit` bytes. UnreadableError otherwise."""
    try:
        descriptor = _opened_below(within, path) if within is not None else os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError) as error:
        raise UnreadableError(path, _why(path, error), "a regular file") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "a special file")
            raise UnreadableError(path, kind, "a regular file")
        if found.st_size > limit:
            raise UnreadableError(path, f"{found.st_size:,} bytes", f"at most {limit:,} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def names_in(folder: Path, limit: int = NAMES_LIMIT) -> list[str]:
    """The names in a folder, sorted; none if there is no such folder. UnreadableError for a link, or too many names."""
    try:
        if stat.S_ISLNK(os.lstat(folder).st_mode):
            raise UnreadableError(folder, "a symbolic link", "a folder")
        with os.scandir(folder) as entries:
            names = [entry.name for _, entry in zip(range(limit + 1), entries, strict=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnreadableError(folder, _why(folder, error), "a folder") from None
    if len(names) > limit:
        raise UnreadableError(folder, f"more than {limit:,} names", f"at most {limit:,} names")
    return sorted(names)


def is_deeper(data: bytes, limit: int) -> bool:
    """Whether the brackets of a JSON text are nested deeper than `limit`; found by counting, without parsing."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    level = 0
    for match in _TOKEN.finditer(data):
        first = match[0][:1]
        level += (first in b"[{") - (first in b"]}")
        if level > limit:
            return True
    return False


def printable(path: object) -> str:
    """A path, or any text, on one line and in UTF-8: control characters and lone surrogates are escaped."""
    text = str(path)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def one_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def _opened_below(within: Path, path: Path) -> int:
    """A descriptor of the file, each folder below `within` opened from the one before, none of them a link."""
    parts = Path(path).relative_to(within).parts
    if not parts or ".." in parts:
        raise ValueError("a path that leads out of the directory")
    if os.open not in os.supports_dir_fd:  # Windows
        return os.open(path, _OPEN_FLAGS)
    folder = os.open(within, _FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], _OPEN_FLAGS, dir_fd=folder)
    finally:
        os.close(folder)


def _why(path: Path, error: Exception) -> str:
    """What is there instead, in words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return one_line(error)
    if not stat.S_ISREG(mode):
        return _KINDS.get(stat.S_IFMT(mode), "a special file")
    return f"a file that cannot be opened ({(getattr(error, 'strerror', None) or str(error)).lower()})"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:80]!r} twice")
        found[name] = value
    return found
