"""Run a command and follow every file event under its run directory, without its cooperation.

This is a program of its own, which traced_runs.py starts: the command, all its threads and its children are traced, and
stopped right before each system call that makes, writes, syncs, renames, links, cuts or removes a file there. What the
directory holds at such a stop is what SIGKILL would leave at that moment; a snapshot of it is kept, and one of the end.
A large write can itself be cut by a kill: a state with its first half is kept as well ("torn").

The program can send a signal too: so many events into the run and so many seconds after the last of them, which is the
same place of the run whatever the machine does meanwhile.

What it does not see: writes through a shared memory mapping (they show at the next event), and files elsewhere.
"""

import argparse
import json
import os
import resource
import signal
import stat
import struct
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gates.errors import GateError
from gates.subject import ptrace, system_calls
from gates.subject.snapshots import WHOLE, Full, SnapshotStore
from gates.subject.system_calls import CALLS, OPEN_FLAGS, Call

ALL_CHILDREN = 0x40000000  # __WALL: threads too
PAGE = 4096
"""A write of no more than a page is not cut by SIGKILL."""
O_CREATES, O_EMPTIES, O_APPENDS, O_WRITES = 0o100, 0o1000, 0o2000, 0o3


@dataclass
class Event:
    """One file event: the command was stopped right before it."""

    kind: str
    """create, write, truncate, fsync, rename, link, unlink, mkdir; torn: a write of which the first half is done; read;
    open: for writing, without changing the file."""
    path: str
    """Relative to the run directory; "" if it is outside of it."""
    to: str = ""
    """Where a rename or link leads, relative to the run directory; "" if outside."""
    seconds: float = 0.0
    """Since the start."""
    size: int = 0
    """Bytes that a write has."""
    state: int | None = None
    """The state before it; None if snapshots are not taken, or no more."""


@dataclass
class Follower:
    """Looks at each stop: which file, does it lie in the run directory, what did the directory hold."""

    root: Path
    store: SnapshotStore | None
    machine: system_calls.Machine
    events: list[Event] = field(default_factory=list)
    changes: int = 0
    """Events so far that change the directory or sync it: all but read and open."""
    full: bool = False
    _began: float = field(default_factory=time.monotonic)
    _writing: dict[int, tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=dict)
    """Thread -> (inode, range) of the write that it was let go for; over when the thread stops again."""
    _touched: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._calls = {number: name for name, number in self.machine.numbers.items()}

    def stopped(self, thread: int, number: int, arguments: tuple[int, ...]) -> bool:
        """Take note of a call that a thread is about to make. Whether it is a file event of the run directory."""
        name = self._calls[number]
        call = CALLS[name]
        path, to = self._place(thread, call.file, arguments), self._place(thread, call.to, arguments)
        kind = self._kind(thread, name, call, arguments, path)
        self._writes_end(thread)
        if path is None and to is None:
            return False
        event = Event(kind, path or "", to or "", time.monotonic() - self._began)
        if kind in ("read", "open"):
            if kind == "read" and not (self.root / event.path).is_file():
                return False  # a folder that is listed, or a file that is not there
            self.events.append(event)
            return False
        event.state = self.snapshot()
        if kind == "write":
            event.size = sum(length for _, length in _pieces(thread, name, arguments))
        self.events.append(event)
        self.changes += 1
        if call.file is not None and call.file[0] == "fd" and kind != "fsync":
            self._write_begins(thread, name, arguments, event)
        elif name == "truncate":
            self._forget(self.root / event.path)
        return True

    def gone(self, thread: int) -> None:
        """A thread has ended; so have its writes."""
        self._writes_end(thread)

    def snapshot(self) -> int | None:
        """Number of the state that the directory is in; None if none is kept, or no more fit."""
        if self.store is None or self.full:
            return None
        spans = dict(self._touched)
        for inode, span in self._writing.values():
            spans[inode] = _joined(spans.get(inode), span)
        self._touched.clear()
        try:
            return self.store.take(self.root, spans)
        except Full:
            self.full = True
            return None

    def _writes_end(self, thread: int) -> None:
        if thread in self._writing:
            inode, span = self._writing.pop(thread)
            self._touched[inode] = _joined(self._touched.get(inode), span)

    def _write_begins(self, thread: int, name: str, arguments: tuple[int, ...], event: Event) -> None:
        """Remember which bytes of which file are about to change; keep the state with half of them there."""
        descriptor = arguments[CALLS[name].file[1]]  # type: ignore[index]
        try:
            said = os.stat(f"/proc/{thread}/fd/{descriptor}")
        except OSError:
            return
        start, span = 0, WHOLE
        if event.size:
            at = arguments[3] if name[0] == "p" else _position(thread, descriptor, said.st_size)
            start, span = at, (at, at + event.size)
        self._writing[thread] = (said.st_dev, said.st_ino), span
        if event.size <= PAGE or event.state is None or not stat.S_ISREG(said.st_mode):
            return
        data, half = b"", event.size // 2
        for address, length in _pieces(thread, name, arguments):
            data += ptrace.read_bytes(thread, address, min(length, half - len(data)))
        assert self.store is not None
        try:
            state = self.store.torn(event.state, event.path, start, data) if data else None
        except Full:
            self.full, state = True, None
        if state is not None:
            self.events.append(Event("torn", event.path, "", event.seconds, len(data), state))

    def _forget(self, path: Path) -> None:
        try:
            said = path.stat()
        except OSError:
            return
        self._touched[said.st_dev, said.st_ino] = WHOLE

    def _kind(self, thread: int, name: str, call: Call, arguments: tuple[int, ...], path: str | None) -> str:
        if call.kind != "open" or path is None:
            return call.kind
        if name in OPEN_FLAGS:
            flags = arguments[OPEN_FLAGS[name]]
        else:
            flags = int.from_bytes(ptrace.read_bytes(thread, arguments[2], 8), "little")
        exists = os.path.lexists(self.root / path)
        if flags & O_EMPTIES or (flags & O_CREATES and not exists):
            return "create"
        return "open" if flags & 0o1 else "read"

    def _place(
        self, thread: int, where: tuple[str, int, int] | None, arguments: tuple[int, ...]
    ) -> str | None:
        """The file that an argument names, relative to the run directory; None if it is not in it."""
        if where is None:
            return None
        how, first, second = where
        try:
            if how == "fd":
                path = os.readlink(f"/proc/{thread}/fd/{arguments[first]}").removesuffix(" (deleted)")
            else:
                path = self._absolute(thread, how, arguments, first, second)
        except OSError:
            return None
        if not path.startswith("/"):
            return None  # a pipe, a socket
        relative = os.path.relpath(path, self.root)
        return None if relative == ".." or relative.startswith("../") else relative

    @staticmethod
    def _absolute(thread: int, how: str, arguments: tuple[int, ...], first: int, second: int) -> str:
        written = ptrace.read_path(thread, arguments[second if how == "at" else first])
        folder = arguments[first] & 0xFFFFFFFF
        base = f"fd/{folder}" if how == "at" and folder < 1 << 31 else "cwd"  # AT_FDCWD is negative
        if not written.startswith("/"):
            written = os.path.join(os.readlink(f"/proc/{thread}/{base}"), written)
        head, tail = os.path.split(os.path.normpath(written))
        return os.path.join(os.path.realpath(head), tail)


def _pieces(thread: int, name: str, arguments: tuple[int, ...]) -> list[tuple[int, int]]:
    """Address and length of the pieces of memory that a write writes; none for a copy from another file."""
    if name in ("write", "pwrite64"):
        return [(arguments[1], arguments[2])]
    if name not in ("writev", "pwritev", "pwritev2"):
        return []
    vector = ptrace.read_bytes(thread, arguments[1], 16 * arguments[2])
    return list(struct.iter_unpack("=QQ", vector[: len(vector) // 16 * 16]))


def _joined(one: tuple[int, int] | None, other: tuple[int, int]) -> tuple[int, int]:
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))


def _position(thread: int, descriptor: int, size: int) -> int:
    """Where the next write of an open file goes."""
    said = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{thread}/fdinfo/{descriptor}").read_text().splitlines()
        if ":\t" in line
    )
    return size if int(said["flags"], 8) & O_APPENDS else int(said["pos"])


@dataclass
class Interruption:
    """A signal to the command, once it has made so many file events, and then so many seconds later."""

    number: int
    events: int
    delay: float
    sent: float | None = None
    """When it was sent, in seconds since the start."""
    at: int = 0
    """Events there were by then."""
    _armed: bool = False

    def look(self, changes: int, send: "Sender") -> None:
        """Set the clock once there are enough events."""
        if self._armed or changes < self.events:
            return
        self._armed = True
        signal.signal(signal.SIGALRM, lambda *_: send(self))
        signal.setitimer(signal.ITIMER_REAL, max(self.delay, 1e-6))


class Sender:
    """Sends the signal: SIGKILL to everything that the command has started, another one to the command alone."""

    def __init__(self, follower: Follower, threads: set[int], command: int) -> None:
        self.follower, self.threads, self.command = follower, threads, command
        self._began = time.monotonic()

    def __call__(self, interruption: Interruption) -> None:
        interruption.sent, interruption.at = time.monotonic() - self._began, self.follower.changes
        everything = interruption.number == signal.SIGKILL
        for thread in [*self.threads] if everything else [self.command]:
            try:
                os.kill(thread, interruption.number)
            except ProcessLookupError:
                continue


def follow(tracer: ptrace.Tracer, follower: Follower, interruption: Interruption | None) -> int:
    """Follow the command to its end; the status of its first process, that of a signal negative."""
    threads, status = {tracer.pid}, 0
    send = Sender(follower, threads, tracer.pid)
    if interruption is not None:
        interruption.look(0, send)
    while True:
        try:
            thread, said = os.waitpid(-1, ALL_CHILDREN)
        except ChildProcessError:
            return status
        if not os.WIFSTOPPED(said):
            threads.discard(thread)
            follower.gone(thread)
            if thread == tracer.pid:
                status = os.waitstatus_to_exitcode(said)
                _end(threads)
            continue
        threads.add(thread)
        event, number = said >> 16, os.WSTOPSIG(said)
        if event == ptrace.STOPPED_BY_FILTER:
            call = tracer.call(thread)
            if call is not None and follower.stopped(thread, *call) and interruption is not None:
                interruption.look(follower.changes, send)
            tracer.let_go(thread)
        elif event == ptrace.STOPPED and number != signal.SIGTRAP:
            tracer.stay_stopped(thread)
        else:
            tracer.let_go(thread, 0 if event else number)


def _seconds_of_children() -> float:
    """Processor time of the command and what it waited for, not of this program."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _end(threads: set[int]) -> None:
    """What the first process left running ends with it."""
    for thread in threads:
        try:
            os.kill(thread, signal.SIGKILL)
        except ProcessLookupError:
            continue


def main() -> int:
    """Run the command; what was seen goes into FOLDER/trace.json, the pieces of the states into FOLDER/pack."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--watch", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument(
        "--limit", type=int, default=0, help="bytes that the states may take; 0: none are kept"
    )
    parser.add_argument("--reads", action="store_true")
    parser.add_argument("--signal", type=int)
    parser.add_argument("--events", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args()
    interruption = Interruption(given.signal, given.events, given.delay) if given.signal else None
    with (given.record / "pack").open("w+b") as pack:
        store = SnapshotStore(pack, given.limit) if given.limit else None
        try:
            machine = system_calls.this_machine()
            program = system_calls.filter_program(machine, reads=given.reads)
            follower = Follower(Path(os.path.realpath(given.watch)), store, machine)
            tracer = ptrace.Tracer(given.argv, machine, program)
            status = follow(tracer, follower, interruption)
            if said := tracer.why_not_started():
                raise GateError(said)
        except GateError as error:
            print(error, file=sys.stderr)
            return 127
        last = follower.snapshot()
    record = {
        "status": status,
        "last": last,
        "full": follower.full,
        "sent": interruption and interruption.sent,
        "at": interruption.at if interruption else 0,
        "cpu": _seconds_of_children(),
        "events": [asdict(event) for event in follower.events],
        **(store.as_json() if store else {"pieces": [], "contents": [], "states": []}),
    }
    (given.record / "trace.json").write_text(json.dumps(record), encoding="utf-8")
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
