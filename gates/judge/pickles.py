"""Whether a file is a pickle, by its bytes: under any name, and inside zips, compressed streams and NumPy files.

Of any other format nothing is asked here (gates/judge/artefacts.py asks more, of a run of phase 18). Nothing is
unpickled: the instructions of a pickle are read, not run.
"""

import ast
import bz2
import gzip
import lzma
import os
import pickletools
import struct
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from gates.subject.snapshots import walk
from gates.verdict.finding import Finding, Problem, no_problems
from honestloop.guarded_files import open_regular

MOST = 1 << 28
"""Bytes of a file, or of what a compressed one holds, that are looked at."""
DEEPEST = 3
"""Archives inside archives."""
STREAMS: dict[bytes, Callable[[BytesIO], object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
OPENINGS = b"(]})c"
"""First byte of a pickle of protocol 0 or 1 of anything but a number or a text."""


def check(where: str, run: Path) -> Finding:
    """No file of a run directory is a pickle or holds one."""
    problems, files, size = list[Problem](), 0, 0
    for name, path in walk(run):
        if path.is_symlink() or not path.is_file():
            continue
        with open_regular(path, sys.maxsize) as file:
            data = file.read(MOST)
        files, size = files + 1, size + os.stat(path).st_size
        if what := pickle_in(data):
            problems.append(Problem(f"{name}: {what}", "a pickle", "a format that holds data alone"))
    if not files:
        problems.append(Problem("the run directory is empty", "no files", "files"))
    return no_problems(where, problems, of=f"{files} files, {size:,} bytes", what="pickles")


def pickle_in(data: bytes, depth: int = 0) -> str | None:
    """Where in these bytes a pickle is, in words; None if there is none."""
    if is_pickle(data):
        return "is a pickle"
    if depth == DEEPEST:
        return None
    if data.startswith(b"\x93NUMPY"):
        return "is a NumPy array of objects, which are pickled" if _holds_objects(data) else None
    if data.startswith(b"PK\x03\x04"):
        return _in_zip(data, depth)
    for start, opened in STREAMS.items():
        if data.startswith(start):
            try:
                with opened(BytesIO(data)) as stream:  # type: ignore[attr-defined]
                    inner = pickle_in(stream.read(MOST), depth + 1)
            except (OSError, EOFError, ValueError, lzma.LZMAError):
                return None
            return inner and f"is compressed, and {inner}"
    return None


def is_pickle(data: bytes) -> bool:
    """Whether the bytes are the instructions of an unpickler up to a STOP: at the end, if they may be text."""
    protocol = data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05"
    if not protocol and data[:1] not in OPENINGS:
        return False
    try:
        for instruction, _, place in pickletools.genops(data):
            if instruction.name == "STOP":
                return protocol or not data[(place or 0) + 1 :].strip()
    except (ValueError, LookupError, OverflowError, TypeError, struct.error):
        return False
    return False


def _in_zip(data: bytes, depth: int) -> str | None:
    """The first member of a zip that is a pickle: torch.save writes one, data.pkl."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            for member in archive.infolist():
                if member.file_size <= MOST and (inner := pickle_in(archive.read(member), depth + 1)):
                    return f"is a zip, in which {member.filename} {inner}"
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError):
        return None
    return None


def _holds_objects(data: bytes) -> bool:
    """Whether the header of a .npy file names a dtype with objects in it."""
    width = 2 if data[6:7] == b"\x01" else 4
    length = int.from_bytes(data[8 : 8 + width], "little")
    try:
        header = ast.literal_eval(data[8 + width : 8 + width + length].decode("latin-1").strip())
        return "O" in repr(header["descr"])
    except (ValueError, SyntaxError, LookupError, TypeError, RecursionError, MemoryError):
        return False
