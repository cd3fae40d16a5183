"""Every state that a directory was in, kept so that a hundred states that differ little take little space.

A file is kept as pieces of 64 KiB, each piece once, however many files and states it is in. What a write has not
touched is not read again. A state is the tree: names, folders, links, contents and times of modification (a script may
look for its newest file by them; whether two states are the same does not depend on them). Files are opened only if
they are regular, and no link is followed.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

PIECE = 1 << 16
WHOLE = (0, 1 << 62)
"""A range of bytes: all of them."""

Content = tuple[int, tuple[int, ...]]
"""Size of a file in bytes, and the numbers of its pieces."""
Entry = tuple[str, Any, int]
"""("file", number of a content, time), ("folder", None, time), ("link", its target, 0), ("other", None, 0)."""
Tree = dict[str, Entry]
"""Name relative to the directory, "." for itself -> entry. Empty if there is no directory."""


class Full(Exception):
    """The limit on the size of what is kept is reached."""


@dataclass
class SnapshotStore:
    """States of one directory, in the order in which they were seen, each once."""

    pack: BinaryIO
    """Where the pieces go, one behind the other."""
    limit: int
    """Bytes that the pieces may take."""
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Place and length of each piece."""
    contents: list[Content] = field(default_factory=list)
    states: list[Tree] = field(default_factory=list)
    _piece: dict[bytes, int] = field(default_factory=dict)
    _content: dict[Content, int] = field(default_factory=dict)
    _state: dict[bytes, int] = field(default_factory=dict)
    _seen: dict[tuple[int, int], tuple[tuple[int, int, int], Content]] = field(default_factory=dict)
    """Device and inode -> (size, times), content: what need not be read again."""

    def take(self, root: Path, touched: dict[tuple[int, int], tuple[int, int]]) -> int:
        """Number of the state that the directory is in. `touched`: inode -> range that writes may have changed.

        Raises Full if what is new in it does not fit.
        """
        return self._keep({name: self._entry(path, touched) for name, path in walk(root)})

    def torn(self, state: int, name: str, start: int, data: bytes) -> int | None:
        """Number of the same state with these bytes written into one file; None if there is no such file in it."""
        tree = self.states[state]
        if tree.get(name, ("",))[0] != "file":
            return None
        size, pieces = self.contents[tree[name][1]]
        first, last = start // PIECE, (start + len(data) - 1) // PIECE
        old = b"".join(self._read(p) for p in pieces[first : last + 1])
        old = old.ljust(start - first * PIECE, b"\0")
        new = old[: start - first * PIECE] + data + old[start - first * PIECE + len(data) :]
        if start > size:  # a hole
            return None
        changed = [self._put(new[i : i + PIECE]) for i in range(0, len(new), PIECE)]
        content = max(size, start + len(data)), (*pieces[:first], *changed, *pieces[last + 1 :])
        return self._keep(tree | {name: ("file", self._intern(content), tree[name][2])})

    def as_json(self) -> dict[str, Any]:
        """What `Snapshots.read` needs beside the pack."""
        return {"pieces": self.pieces, "contents": self.contents, "states": self.states}

    def _keep(self, tree: Tree) -> int:
        identity = json.dumps(sorted((name, kind, what) for name, (kind, what, _) in tree.items()))
        digest = hashlib.blake2b(identity.encode()).digest()
        if digest not in self._state:
            self._state[digest] = len(self.states)
            self.states.append(tree)
        return self._state[digest]

    def _entry(self, path: Path, touched: dict[tuple[int, int], tuple[int, int]]) -> Entry:
        try:
            said = os.lstat(path)
            if stat.S_ISREG(said.st_mode):
                return "file", self._intern(self._file(path, said, touched)), said.st_mtime_ns
            if stat.S_ISLNK(said.st_mode):
                return "link", os.readlink(path), 0
        except FileNotFoundError:  # another thread of the subject has just removed it
            return "other", None, 0
        return ("folder", None, said.st_mtime_ns) if stat.S_ISDIR(said.st_mode) else ("other", None, 0)

    def _file(
        self, path: Path, said: os.stat_result, touched: dict[tuple[int, int], tuple[int, int]]
    ) -> Content:
        inode = said.st_dev, said.st_ino
        marks = said.st_size, said.st_mtime_ns, said.st_ctime_ns
        before, known = self._seen.get(inode, (None, (0, ())))
        span = touched.get(inode)
        if span is None and before == marks:
            return known
        start, end = WHOLE if span is None or before is None else span
        if said.st_size < known[0]:
            start, end = WHOLE
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
            content = self._content_of(file, said.st_size, known, start, end)
        self._seen[inode] = marks, content
        return content

    def _content_of(self, file: BinaryIO, size: int, known: Content, start: int, end: int) -> Content:
        """The file's content: pieces that lie in no changed range, and not in what was added, are as they were."""
        pieces = list[int]()
        for number, at in enumerate(range(0, size, PIECE)):
            untouched = at + PIECE <= min(start, known[0]) or (at >= end and at + PIECE <= known[0])
            if untouched:
                pieces.append(known[1][number])
            else:
                file.seek(at)
                pieces.append(self._put(file.read(min(PIECE, size - at))))
        return size, tuple(pieces)

    def _put(self, data: bytes) -> int:
        digest = hashlib.blake2b(data, digest_size=20).digest()
        if digest not in self._piece:
            place = self.pack.tell()
            if place + len(data) > self.limit:
                raise Full
            self.pack.write(data)
            self._piece[digest] = len(self.pieces)
            self.pieces.append((place, len(data)))
        return self._piece[digest]

    def _read(self, piece: int) -> bytes:
        place, length = self.pieces[piece]
        self.pack.seek(place)
        data = self.pack.read(length)
        self.pack.seek(0, os.SEEK_END)
        return data

    def _intern(self, content: Content) -> int:
        if content not in self._content:
            self._content[content] = len(self.contents)
            self.contents.append(content)
        return self._content[content]


def walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Name relative to the directory, and path, of everything in it, a folder before what is in it."""
    if not root.is_dir():
        return
    yield ".", root
    left = [root]
    while left:
        folder = left.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        for entry in entries:
            path = Path(entry.path)
            yield str(path.relative_to(root)), path
            if entry.is_dir(follow_symlinks=False):
                left.append(path)


@dataclass(frozen=True)
class Snapshots:
    """The states that were kept, to be put somewhere as they were."""

    pack: Path
    pieces: list[list[int]]
    contents: list[Any]
    states: list[dict[str, Any]]

    def restore(self, state: int, to: Path) -> None:
        """Make the directory `to`, which must not be there, what the directory was in this state."""
        tree = self.states[state]
        with self.pack.open("rb") as pack:
            for name, (kind, what, _) in tree.items():
                path = to / name
                if kind == "folder":
                    path.mkdir(parents=name == ".")
                elif kind == "link":
                    path.symlink_to(what)
                elif kind == "file":
                    path.write_bytes(b"".join(self._pieces(pack, self.contents[what][1])))
        for name, (kind, _, time) in reversed(tree.items()):
            if kind in ("file", "folder"):
                os.utime(to / name, ns=(time, time))

    def _pieces(self, pack: BinaryIO, numbers: list[int]) -> Iterator[bytes]:
        for number in numbers:
            place, length = self.pieces[number]
            pack.seek(place)
            yield pack.read(length)
