"""The system calls of Linux that make, change or remove a file, and the seccomp filter that stops a process at them.

A filter sees the number and the arguments of a call, not the memory they point to: it can tell an `open` for reading
from one for writing by its flags, but no path from another. Everything else runs at full speed.

Source: seccomp(2); Linux uapi headers asm/unistd_64.h (x86-64), asm-generic/unistd.h (aarch64), linux/audit.h.
"""

import platform
import struct
from dataclasses import dataclass

from gates.errors import GateError

WRITES = 0o1 | 0o2 | 0o100 | 0o1000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC: an open with none of them changes nothing."""
TRACE, ALLOW, NO_SUCH_CALL = 0x7FF00000, 0x7FFF0000, 0x00050000 | 38
"""SECCOMP_RET_TRACE, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with ENOSYS."""
CLONES = (0x40049409, 0x4020940D)
"""ioctl FICLONE and FICLONERANGE: a file becomes a copy of another without a write."""
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld [k]; jeq k; jset k; ret k
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


@dataclass(frozen=True)
class Call:
    """One system call: what kind of file event it is, and which arguments say of which file."""

    kind: str
    """create, open, write, truncate, fsync, rename, link, unlink, mkdir; open becomes create or read by its flags."""
    file: tuple[str, int, int] | None = None
    """("fd", i, 0), ("path", i, 0), or ("at", i, j): a path in argument j, relative to the folder in argument i."""
    to: tuple[str, int, int] | None = None
    """Of a rename or link: where to."""


OPEN_FLAGS = {"open": 1, "openat": 2}
"""Argument that holds the flags. (Those of openat2 are in memory.)"""
CALLS = {
    "open": Call("open", ("path", 0, 0)),
    "openat": Call("open", ("at", 0, 1)),
    "openat2": Call("open", ("at", 0, 1)),
    "creat": Call("create", ("path", 0, 0)),
    "mknod": Call("create", ("path", 0, 0)),
    "mknodat": Call("create", ("at", 0, 1)),
    "write": Call("write", ("fd", 0, 0)),
    "pwrite64": Call("write", ("fd", 0, 0)),
    "writev": Call("write", ("fd", 0, 0)),
    "pwritev": Call("write", ("fd", 0, 0)),
    "pwritev2": Call("write", ("fd", 0, 0)),
    "sendfile": Call("write", ("fd", 0, 0)),
    "splice": Call("write", ("fd", 2, 0)),
    "copy_file_range": Call("write", ("fd", 2, 0)),
    "ioctl": Call("write", ("fd", 0, 0)),
    "truncate": Call("truncate", ("path", 0, 0)),
    "ftruncate": Call("truncate", ("fd", 0, 0)),
    "fallocate": Call("truncate", ("fd", 0, 0)),
    "fsync": Call("fsync", ("fd", 0, 0)),
    "fdatasync": Call("fsync", ("fd", 0, 0)),
    "rename": Call("rename", ("path", 0, 0), ("path", 1, 0)),
    "renameat": Call("rename", ("at", 0, 1), ("at", 2, 3)),
    "renameat2": Call("rename", ("at", 0, 1), ("at", 2, 3)),
    "link": Call("link", ("path", 0, 0), ("path", 1, 0)),
    "linkat": Call("link", ("at", 0, 1), ("at", 2, 3)),
    "symlink": Call("create", ("path", 1, 0)),
    "symlinkat": Call("create", ("at", 1, 2)),
    "unlink": Call("unlink", ("path", 0, 0)),
    "unlinkat": Call("unlink", ("at", 0, 1)),
    "rmdir": Call("unlink", ("path", 0, 0)),
    "mkdir": Call("mkdir", ("path", 0, 0)),
    "mkdirat": Call("mkdir", ("at", 0, 1)),
}


@dataclass(frozen=True)
class Machine:
    """One processor architecture: how the kernel names it, and its numbers of the calls above."""

    audit: int
    seccomp: int
    """The call that installs a filter."""
    io_uring_setup: int
    numbers: dict[str, int]


MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        317,
        425,
        {
            "open": 2,
            "openat": 257,
            "openat2": 437,
            "creat": 85,
            "mknod": 133,
            "mknodat": 259,
            "write": 1,
            "pwrite64": 18,
            "writev": 20,
            "pwritev": 296,
            "pwritev2": 328,
            "sendfile": 40,
            "splice": 275,
            "copy_file_range": 326,
            "ioctl": 16,
            "truncate": 76,
            "ftruncate": 77,
            "fallocate": 285,
            "fsync": 74,
            "fdatasync": 75,
            "rename": 82,
            "renameat": 264,
            "renameat2": 316,
            "link": 86,
            "linkat": 265,
            "symlink": 88,
            "symlinkat": 266,
            "unlink": 87,
            "unlinkat": 263,
            "rmdir": 84,
            "mkdir": 83,
            "mkdirat": 258,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        277,
        425,
        {
            "openat": 56,
            "openat2": 437,
            "mknodat": 33,
            "write": 64,
            "pwrite64": 68,
            "writev": 66,
            "pwritev": 70,
            "pwritev2": 287,
            "sendfile": 71,
            "splice": 76,
            "copy_file_range": 285,
            "ioctl": 29,
            "truncate": 45,
            "ftruncate": 46,
            "fallocate": 47,
            "fsync": 82,
            "fdatasync": 83,
            "renameat": 38,
            "renameat2": 276,
            "linkat": 37,
            "symlinkat": 36,
            "unlinkat": 35,
            "mkdirat": 34,
        },
    ),
}


def this_machine() -> Machine:
    """The numbers of the machine this runs on. GateError if it is none of those known here."""
    name = platform.machine()
    if platform.system() != "Linux" or name not in MACHINES:
        raise GateError(
            f"file events are followed with ptrace on Linux, x86-64 or aarch64; this is {platform.system()} {name}"
        )
    return MACHINES[name]


def filter_program(machine: Machine, *, reads: bool) -> bytes:
    """A seccomp filter, as the instructions of its BPF program: stop at the calls above, run everything else.

    With `reads`, opens for reading stop too. io_uring, whose writes are no system calls, is said not to exist;
    programs then write as usual.
    """
    code = [_step(LOAD, ARCHITECTURE), _step(EQUAL, machine.audit, yes=1), _step(RETURN, ALLOW)]
    code += [_step(LOAD, NUMBER)]
    code += [_step(EQUAL, machine.io_uring_setup, no=1), _step(RETURN, NO_SUCH_CALL)]
    for name, number in machine.numbers.items():
        if name in OPEN_FLAGS and not reads:
            tests = [_step(ANY_BIT, WRITES, no=1)]
            argument = OPEN_FLAGS[name]
        elif name == "ioctl":
            tests = [_step(EQUAL, CLONES[0], yes=1), _step(EQUAL, CLONES[1], no=1)]
            argument = 1
        else:
            code += [_step(EQUAL, number, no=1), _step(RETURN, TRACE)]
            continue
        body = [
            _step(LOAD, FIRST_ARGUMENT + 8 * argument),
            *tests,
            _step(RETURN, TRACE),
            _step(RETURN, ALLOW),
        ]
        code += [_step(EQUAL, number, no=len(body)), *body]
    return b"".join([*code, _step(RETURN, ALLOW)])


def _step(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction, struct sock_filter; `yes` and `no` are how many to skip."""
    return struct.pack("=HBBI", code, yes, no, k)
