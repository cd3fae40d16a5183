"""Copies of run directories that somebody else left, and whether two files are equal: nothing there is trusted.

Only regular files are copied, through descriptors that neither wait nor follow a link; links are made again as links. A
FIFO, a directory of a terabyte or one that is nested without end is one line, not a hanging gate.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from gates.errors import GateError
from honestloop.guarded_files import UnreadableError, names_in, open_regular, printable

SIZE_LIMIT = 8 << 30
"""Bytes of one copy."""
FILES_LIMIT = 100_000
DEPTH_LIMIT = 16
BLOCK = 1 << 20

Kept = Callable[[Path], bool]


def everything(_: Path) -> bool:
    """Nothing is left out."""
    return True


def copy_tree(source: Path, to: Path, kept: Kept = everything, *, links: bool = True) -> Path:
    """Copy a folder to `to`, which must not exist, with the times of its files; `kept` says of each path whether to.

    GateError, one line, for what is neither a folder, a regular file nor (with `links`) a link, and beyond a limit.
    """
    copy = _Copy(source, kept, links)
    try:
        copy.folder(source, to, depth=0)
    except UnreadableError as error:
        name = printable(error.path.relative_to(source))
        raise GateError(f"run directory: {name}: found {error.found}, expected {error.expected}") from None
    return to


class _Copy:
    """What was copied so far, against the limits."""

    def __init__(self, root: Path, kept: Kept, links: bool) -> None:
        self._root, self._kept, self._links = root, kept, links
        self._bytes = self._files = 0

    def folder(self, source: Path, to: Path, depth: int) -> None:
        if depth > DEPTH_LIMIT:
            raise GateError(f"run directory: found folders more than {DEPTH_LIMIT} deep, expected fewer")
        to.mkdir(parents=depth == 0)
        for name in names_in(source):
            path, target = source / name, to / name
            if not self._kept(path):
                continue
            self._count()
            if self._links and path.is_symlink():
                target.symlink_to(os.readlink(path))
            elif path.is_dir() and not path.is_symlink():
                self.folder(path, target, depth + 1)
            else:
                self._file(path, target)
        shutil.copystat(source, to)

    def _file(self, source: Path, to: Path) -> None:
        with open_regular(source, SIZE_LIMIT, within=self._root) as file, to.open("wb") as out:
            while block := file.read(BLOCK):
                out.write(block)
                self._bytes += len(block)
                if self._bytes > SIZE_LIMIT:
                    raise GateError(f"run directory: found more than {SIZE_LIMIT:,} bytes, expected fewer")
            found = os.fstat(file.fileno())
        to.chmod(found.st_mode & 0o777)
        os.utime(to, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _count(self) -> None:
        self._files += 1
        if self._files > FILES_LIMIT:
            raise GateError(f"run directory: found more than {FILES_LIMIT:,} files, expected fewer")


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two regular files are equal, without holding them. GateError if one of them is none."""
    try:
        with open_regular(one) as first, open_regular(other) as second:
            if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
                return False
            while block := first.read(BLOCK):
                if block != second.read(BLOCK):
                    return False
            return not second.read(1)
    except UnreadableError as error:
        raise GateError(f"run directory: {printable(error)}") from None
