"""ptrace(2), as much of it as stopping a tree of processes at chosen system calls takes.

A traced process is started with a seccomp filter that its children inherit; every one of its threads and children is
traced from its first instruction, and all of them die with the tracer.
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from typing import NoReturn

from gates.errors import GateError
from gates.subject.system_calls import Machine

SEIZE, CONTINUE, LISTEN, CALL_INFO, EVENT_MESSAGE = 0x4206, 7, 0x4208, 0x420E, 0x4201
OPTIONS = 0x02 | 0x04 | 0x08 | 0x10 | 0x80 | 0x100000
"""Trace what it forks, vforks, clones and executes; stop at seccomp's word; kill all of it when the tracer ends."""
STOPPED_BY_FILTER, STOPPED = 7, 128  # PTRACE_EVENT_SECCOMP, PTRACE_EVENT_STOP
NO_NEW_PRIVILEGES, SET_FILTER, FILTER_ALLOWS_SPECULATION = 38, 1, 4
INFO = struct.Struct("=B3xIQQQ6QI")  # struct ptrace_syscall_info at a seccomp stop
PIECE = 256  # bytes of a path that are read at once


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return libc


class Tracer:
    """Starts one command under tracing; the thread that makes it is the one that may use it."""

    def __init__(self, argv: Sequence[str], machine: Machine, program: bytes) -> None:
        """Start the command. GateError, one line, if the kernel does not allow tracing here."""
        self._libc = _libc()
        ready, go = os.pipe()
        failed, why = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(go)
            os.close(failed)
            _become(argv, self._libc, machine, program, ready, why)
        os.close(ready)
        os.close(why)
        try:
            if self._request(SEIZE, self.pid, 0, OPTIONS) != 0:
                os.kill(self.pid, 9)
                reason = os.strerror(ctypes.get_errno())
                raise GateError(f"file events cannot be followed: ptrace is not allowed here ({reason})")
        finally:
            os.close(go)
        os.set_blocking(failed, False)
        self._failed = failed

    def why_not_started(self) -> str:
        """What kept the command from being started; empty if it was. To be asked when it has ended."""
        try:
            return os.read(self._failed, 4096).decode()
        except BlockingIOError:
            return ""

    def let_go(self, thread: int, signal: int = 0) -> None:
        """Let a stopped thread run on, with a signal that it was about to be given."""
        self._request(CONTINUE, thread, 0, signal)

    def stay_stopped(self, thread: int) -> None:
        """Leave a thread in the stop that SIGSTOP put it in."""
        self._request(LISTEN, thread, 0, 0)

    def call(self, thread: int) -> tuple[int, tuple[int, ...]] | None:
        """Number and six arguments of the call that a thread is stopped before; None if the thread is gone."""
        buffer = ctypes.create_string_buffer(128)
        if self._request(CALL_INFO, thread, len(buffer), ctypes.addressof(buffer)) <= 0:
            return None
        _, _, _, _, number, *rest = INFO.unpack_from(buffer.raw)
        return number, tuple(rest[:6])

    def _request(self, request: int, thread: int, address: int, data: int) -> int:
        return int(self._libc.ptrace(request, thread, address, data))


def _become(
    argv: Sequence[str], libc: ctypes.CDLL, machine: Machine, program: bytes, ready: int, why: int
) -> NoReturn:
    """In the child: wait until it is traced, install the filter, become the command."""
    os.read(ready, 1)  # ends when the tracer closes its side
    os.close(ready)
    code = ctypes.create_string_buffer(program, len(program))
    prog = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code))
    pointer = ctypes.create_string_buffer(prog, len(prog))
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.syscall(machine.seccomp, SET_FILTER, FILTER_ALLOWS_SPECULATION, pointer) != 0:
        reason = os.strerror(ctypes.get_errno())
        os.write(why, f"file events cannot be followed: seccomp is not allowed here ({reason})".encode())
        os._exit(127)
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        os.write(why, f"{argv[0]}: {error.strerror}".encode())
    os._exit(127)


def read_bytes(thread: int, address: int, count: int) -> bytes:
    """So many bytes of a thread's memory; fewer if the memory ends, none if the thread is gone."""
    try:
        memory = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(memory, count, address)
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(memory)


def read_path(thread: int, address: int) -> str:
    """A path in a thread's memory, up to its zero byte."""
    text = b""
    while b"\0" not in text and len(text) < 4096:
        step = PIECE - (address + len(text)) % PIECE  # a page that is not there may begin behind the path
        piece = read_bytes(thread, address + len(text), step)
        if not piece:
            break
        text += piece
    return os.fsdecode(text.partition(b"\0")[0])
