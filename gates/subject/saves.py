"""What a script saved, and when each save was complete, by its file events alone.

A save is complete when its last act is done: a file or folder gets its name (a rename or a link), or, of a file that is
made under its final name, the last write before it is made anew, or goes on being added to. Names that differ in
numbers alone, `step-10` and `step-20`, are one *family*: the same thing, saved again and again.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gates.subject.file_events import Event

NUMBER = re.compile(r"(?=[a-f]*\d)[0-9a-f]{8,}|\d+")
"""What differs between the names of one family: a number, or the digits of a hash."""


@dataclass(frozen=True)
class Save:
    """A file, or a folder with all that is in it, that is complete once an event is done."""

    family: str
    first: int
    """Number of the event that began it."""
    last: int
    """Number of the event that completes it."""
    size: int
    """Bytes written."""


@dataclass
class _Writing:
    first: int
    last: int
    size: int = 0


def family(path: str) -> str:
    """The name without its numbers."""
    return NUMBER.sub("#", path)


def saves(events: Sequence[Event], *, ended: bool = True) -> list[Save]:
    """Every complete save, in the order of completion.

    A run that was ended by force may have been in the middle of its last event, and of a file that it wrote then: those
    do not count (`ended` is false).
    """
    found = list[Save]()
    open_files = dict[str, _Writing]()
    counted = events if ended else events[:-1]

    def complete(path: str) -> None:
        if writing := open_files.pop(path, None):
            found.append(Save(family(path), writing.first, writing.last, writing.size))

    for number, event in enumerate(counted):
        if event.kind == "create":
            complete(event.path)
            open_files[event.path] = _Writing(number, number)
        elif event.kind in ("write", "truncate") and event.path in open_files:
            open_files[event.path].last = number
            open_files[event.path].size += event.size
        elif event.kind == "unlink":
            complete(event.path)
        elif event.kind in ("rename", "link") and event.to:
            complete(event.to)
            parts = [path for path in open_files if path == event.path or path.startswith(event.path + "/")]
            written = [open_files.pop(path) for path in parts if event.path]
            first = min((w.first for w in written), default=number)
            found.append(Save(family(event.to), first, number, sum(w.size for w in written)))
    for path, writing in list(open_files.items()):
        if ended or writing.last < len(events) - 2:
            complete(path)
    return sorted(found, key=lambda save: save.last)


def completed(made: Iterable[Save], before: int) -> Counter[str]:
    """Family -> how many of its saves were complete right before an event."""
    return Counter(save.family for save in made if save.last < before)


def read_families(events: Iterable[Event], families: Iterable[str]) -> set[str]:
    """The families of which a process read a file, or a file in the folder."""
    names = {family(event.path) for event in events if event.kind == "read"}
    return {f for f in families if any(name == f or name.startswith(f + "/") for name in names)}


def lasting(made: Iterable[Save]) -> str | None:
    """The family that is most of what is saved again and again, in bytes: the checkpoints. None if nothing is saved."""
    sizes, counts = Counter[str](), Counter[str]()
    for save in made:
        sizes[save.family] += save.size
        counts[save.family] += 1
    again = {name: size for name, size in sizes.items() if counts[name] > 1} or sizes
    return max(again, key=lambda name: (again[name], counts[name]), default=None)
