"""Where the runs of one gate are made, and the run that all of them are compared with.

Each run has a folder of its own, so that two can go on at a time. A script whose files name the run directory (a
pointer to the latest checkpoint, say) is tied to it: a copy elsewhere would be resumed from the files of the first. All
runs of such a script are made in one and the same folder, one after the other, and moved away when they are over.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from gates.errors import GateError
from gates.subject.commanded import CommandedSubject
from gates.subject.guarded_copy import same_bytes
from gates.subject.session import Session
from gates.subject.snapshots import walk
from gates.subject.traced_runs import Traced, trace
from honestloop.guarded_files import open_regular

BLOCK = 1 << 20


@dataclass
class Places:
    """The folders of the runs of a gate."""

    session: Session
    gate: str
    _first: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _only: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def whole(self) -> Traced:
        """The run that nothing interrupts, with every state of it; made once. GateError unless its status is 0."""
        with self._first:
            return self._whole

    @property
    def tied(self) -> bool:
        """Whether the files that a run leaves name the directory it is in."""
        with self._first:
            return self._tied

    @property
    def limit(self) -> float:
        """Seconds that a resume may take: a resumed run is no longer than the whole, and the machine may be busy."""
        return min(self.session.description.run.timeout, 30 + 10 * self.whole.seconds)

    @cached_property
    def _whole(self) -> Traced:
        subject = self.session.commanded(f"{self.gate}/here")
        seen = trace(subject, states=True)
        if seen.status != 0:
            raise GateError(
                f"`{subject.description.commands['train']}` ended with status {seen.status}: {seen.said}"
            )
        if not any(seen.run.iterdir() if seen.run.is_dir() else ()):
            raise GateError("the run left no files in {out}")
        return self._kept(seen)

    def _kept(self, seen: Traced) -> Traced:
        kept = seen.run.parent.with_name("whole")
        seen.run.parent.rename(kept)
        snapshots = replace(seen.snapshots, pack=kept / seen.snapshots.pack.relative_to(seen.run.parent))
        return replace(seen, run=kept / "run", snapshots=snapshots)

    @cached_property
    def _tied(self) -> bool:
        made_in = self._whole.run.parent.with_name("here") / "run"
        return names_path(self._whole.run, made_in)

    @contextlib.contextmanager
    def place(self, name: str) -> Iterator[CommandedSubject]:
        """A subject with an empty folder for one run, and what resumes it."""
        _ = self.whole
        kept = self.session.commanded(f"{self.gate}/{name}")
        if not self.tied:
            kept.home.mkdir(parents=True)
            yield kept
            return
        with self._only:
            here = self.session.commanded(f"{self.gate}/here")
            here.home.mkdir()
            try:
                yield here
            finally:
                here.home.rename(kept.home)

    def found(self, name: str) -> Path:
        """Where a run of that name is, once it is over."""
        return self.session.commanded(f"{self.gate}/{name}").home / "run"


def names_path(run: Path, path: Path) -> bool:
    """Whether a file or a link in a directory contains this path, as it is or as JSON writes it."""
    wanted = {os.fsencode(path), json.dumps(str(path))[1:-1].encode()}
    for _, file in walk(run):
        if file.is_symlink():
            if any(word in os.fsencode(os.readlink(file)) for word in wanted):
                return True
        elif file.is_file() and _contains(file, wanted):
            return True
    return False


def _contains(file: Path, wanted: set[bytes]) -> bool:
    overlap = max(map(len, wanted))
    tail = b""
    with open_regular(file, sys.maxsize) as stream:
        while block := stream.read(BLOCK):
            if any(word in tail + block for word in wanted):
                return True
            tail = block[-overlap:]
    return False


def share_equal_files(run: Path, whole: Path) -> None:
    """Replace each file that is equal to the other run's by a link to it: hundreds of runs then take little space."""
    for name, path in walk(run):
        other = whole / name
        if path.is_symlink() or not path.is_file() or other.is_symlink() or not other.is_file():
            continue
        if same_bytes(path, other):
            shared = path.with_name(f"{path.name}.shared")
            os.link(other, shared)
            shared.replace(path)
