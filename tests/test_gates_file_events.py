"""Every file event of a process tree is seen, with what the directory held before it; signals fall where drawn."""

import os
import platform
import signal
import struct
import time
from pathlib import Path

import pytest

from gates.errors import GateError
from gates.subject import system_calls, traced_runs
from gates.subject.commanded import CommandedSubject
from gates.subject.snapshots import PIECE, Full, SnapshotStore
from gates.subject.system_calls import ALLOW, CALLS, CLONES, MACHINES, NO_SUCH_CALL, TRACE
from gates.subject.traced_runs import Moment, trace
from honestloop.description import describe

HEAD = "import os, signal, subprocess, sys, threading, time\nout = sys.argv[1]\n"


@pytest.fixture
def subject(tmp_path):
    """Makes a subject of a script."""

    def make(body, command='"{python} script.py {out}"', said=""):
        folder = tmp_path / "subject"
        folder.mkdir()
        (folder / "script.py").write_text(HEAD + body, encoding="utf-8")
        text = f"train = {command}\nresume = {command}\n{said}"
        (folder / "subject.toml").write_text(text, encoding="utf-8")
        return CommandedSubject(describe(str(folder)), tmp_path / "home")

    return make


def steps(seen):
    return [(e.kind, e.path, e.to) if e.to else (e.kind, e.path) for e in seen.events]


def tree(seen, state, to):
    """What was in the directory, in a state: name -> bytes, link target, or None of a folder."""
    seen.snapshots.restore(state, to)
    return {
        str(p.relative_to(to)): os.readlink(p) if p.is_symlink() else None if p.is_dir() else p.read_bytes()
        for p in sorted(to.rglob("*"))
    }


def gone(pid):
    """Whether a process that was killed ends; one whose parent has gone may stay as a zombie in a container."""
    for _ in range(1000):
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


EVENTS = """
os.mkdir(out)
os.chdir(out)
a = os.open("a", os.O_RDWR | os.O_CREAT)
os.write(a, b"12345678")
os.pwrite(a, b"xy", 2)
os.writev(a, [b"9", b"0"])
os.ftruncate(a, 6)
os.fsync(a)
os.mkdir("d")
os.rename("a", "d/b")
os.link("d/b", "c")
os.symlink("c", "s")
os.truncate("c", 3)
os.sendfile(os.open("t", os.O_WRONLY | os.O_CREAT), a, 0, 3)
os.close(a)
os.unlink("d/b")
os.rmdir("d")
os.replace("t", sys.argv[1] + "/../outside")
open("/dev/null", "w").write("elsewhere")
open("../beside", "w").write("elsewhere")
"""
SEEN = [
    ("mkdir", "."),
    ("create", "a"),
    *[("write", "a")] * 3,
    ("truncate", "a"),
    ("fsync", "a"),
    ("mkdir", "d"),
    ("rename", "a", "d/b"),
    ("link", "d/b", "c"),
    ("create", "s"),
    ("truncate", "c"),
    ("create", "t"),
    ("write", "t"),
    ("unlink", "d/b"),
    ("unlink", "d"),
    ("rename", "t"),
]
AFTER = [
    {},
    {"a": b""},
    {"a": b"12345678"},
    {"a": b"12xy5678"},
    {"a": b"12xy567890"},
    {"a": b"12xy56"},
    {"a": b"12xy56"},
    {"a": b"12xy56", "d": None},
    {"d": None, "d/b": b"12xy56"},
    {"c": b"12xy56", "d": None, "d/b": b"12xy56"},
    {"c": b"12xy56", "d": None, "d/b": b"12xy56", "s": "c"},
    {"c": b"12x", "d": None, "d/b": b"12x", "s": "c"},
    {"c": b"12x", "d": None, "d/b": b"12x", "s": "c", "t": b""},
    {"c": b"12x", "d": None, "d/b": b"12x", "s": "c", "t": b"12x"},
    {"c": b"12x", "d": None, "s": "c", "t": b"12x"},
    {"c": b"12x", "s": "c", "t": b"12x"},
    {"c": b"12x", "s": "c"},
]
"""What the directory holds after each of these events."""


def test_each_event_is_seen_with_what_the_directory_held_before_it(subject, tmp_path):
    seen = trace(subject(EVENTS), states=True)
    assert (seen.status, seen.said) == (0, "(silent)")
    assert steps(seen) == SEEN
    states = [*(event.state for event in seen.events), seen.last]
    assert tree(seen, states[0], tmp_path / "none") == {}
    assert not (tmp_path / "none").exists()  # not even the directory
    for number, (state, expected) in enumerate(zip(states[1:], AFTER, strict=True)):
        assert tree(seen, state, tmp_path / f"state-{number}") == expected, SEEN[number]
    assert len(set(states)) == len(states) - 1  # before and after fsync it is the same
    assert [e.size for e in seen.events if e.kind == "write"] == [8, 2, 2, 0]


def test_threads_and_children_are_followed(subject):
    body = """
os.mkdir(out)
threading.Thread(target=lambda: open(out + "/thread", "w").write("1")).start()
subprocess.run(["sh", "-c", "echo 1 > $0/shell; cp $0/shell $0/copy", out], check=True)
if os.fork() == 0:
    os.rename(out + "/shell", out + "/forked")
    os._exit(0)
os.wait()
sys.exit(3)
"""
    seen = trace(subject(body), states=True)
    assert seen.status == 3
    assert {("create", "thread"), ("write", "thread"), ("create", "shell"), ("create", "copy")} <= set(
        steps(seen)
    )
    assert steps(seen)[-1] == ("rename", "shell", "forked")


def test_what_a_large_write_leaves_when_it_is_cut_is_a_state(subject, tmp_path):
    body = """
os.mkdir(out)
f = os.open(out + "/f", os.O_WRONLY | os.O_CREAT)
os.write(f, b"head")
os.write(f, b"1" * 100_000 + b"2" * 100_000)
os.writev(f, [b"3" * 5000, b"4" * 7000])
os.lseek(f, 4, 0)
os.write(f, b"5" * 200_000)
os.write(f, b"6" * 4096)
"""
    seen = trace(subject(body), states=True)
    torn = [event for event in seen.events if event.kind == "torn"]
    whole = b"head" + b"1" * 100_000 + b"2" * 100_000
    tail = b"3" * 5000 + b"4" * 7000
    expected = [
        whole[: 4 + 100_000],
        whole + tail[:6000],
        b"head" + b"5" * 100_000 + b"2" * 100_000 + tail,
    ]
    found = [tree(seen, event.state, tmp_path / str(n))["f"] for n, event in enumerate(torn)]
    assert found == expected  # and none of the write of one page, which a kill does not cut


def test_a_file_that_is_overwritten_within_a_tick_of_the_clock_is_read_again(subject, tmp_path):
    """Times of modification are some milliseconds coarse, and the size stays."""
    body = """
os.mkdir(out)
f = os.open(out + "/f", os.O_WRONLY | os.O_CREAT)
for letter in b"abcdefgh":
    os.pwrite(f, bytes([letter]), 0)
"""
    seen = trace(subject(body), states=True)
    states = [event.state for event in seen.events[3:]] + [seen.last]
    found = [tree(seen, state, tmp_path / str(n))["f"] for n, state in enumerate(states)]
    assert found == [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]


def test_a_state_is_restored_with_its_times(subject, tmp_path):
    body = 'os.mkdir(out); open(out + "/new", "w").write("1"); open(out + "/old", "w").write("1")\n'
    body += 'os.utime(out + "/old", (1000, 1000)); open(out + "/x", "w")\n'
    seen = trace(subject(body), states=True)
    tree(seen, seen.last, tmp_path / "again")
    assert (tmp_path / "again" / "old").stat().st_mtime == 1000
    assert (tmp_path / "again" / "new").stat().st_mtime == (seen.run / "new").stat().st_mtime


def test_states_stop_at_the_limit_and_it_is_said(subject, monkeypatch):
    monkeypatch.setattr(traced_runs, "LIMIT", 3 * PIECE)
    body = 'os.mkdir(out)\nfor i in range(9): open(f"{out}/{i}", "wb").write(os.urandom(60_000))\n'
    seen = trace(subject(body), states=True)
    assert seen.full
    assert (seen.events[-1].state, seen.last) == (None, None)
    assert sum(length for _, length in seen.snapshots.pieces) <= 3 * PIECE
    assert len(seen.events) > 18  # the events are seen all the same


def test_what_has_not_changed_is_kept_once_and_not_read_again(tmp_path, monkeypatch):
    root = tmp_path / "run"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(10 * PIECE))
    with (tmp_path / "pack").open("w+b") as pack:
        store = SnapshotStore(pack, 1 << 30)
        first = store.take(root, {})
        (root / "log").write_bytes(b"1")
        said = (root / "big").stat()
        with (root / "big").open("r+b") as file:
            file.seek(3 * PIECE + 5)
            file.write(b"changed")
        os.utime(root / "big", ns=(said.st_atime_ns, said.st_mtime_ns))
        span = (3 * PIECE + 5, 3 * PIECE + 12)
        second = store.take(root, {(said.st_dev, said.st_ino): span})
        assert second == first + 1 == store.take(root, {}) != first
        assert len(store.pieces) == 10 + 1 + 1
        with pytest.raises(Full):
            store.limit = pack.tell()
            (root / "log").write_bytes(b"2")
            store.take(root, {})


def test_reads_are_seen_if_they_are_asked_for(subject):
    body = 'os.makedirs(out, exist_ok=True); open(out + "/a", "w").write("1"); open(out + "/a").read()\n'
    body += 'os.listdir(out); open(out + "/a", "r+").write("2"); open(out + "/a", "a").write("3")\n'
    one = subject(body)
    assert steps(trace(one, reads=True)) == [
        ("mkdir", "."),
        ("create", "a"),
        ("write", "a"),
        ("read", "a"),
        ("read", "a"),
        ("write", "a"),
        ("open", "a"),
        ("write", "a"),
    ]
    assert [e.kind for e in trace(one).events].count("read") == 1  # the one that may write too


def test_a_signal_comes_after_so_many_events(subject):
    body = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
os.mkdir(out)
for i in range(100):
    open(f"{out}/{i}", "w")
    time.sleep(0.05)
"""
    seen = trace(subject(body), moment=Moment(signal.SIGTERM, 5, 0.01))
    assert seen.status == 7
    assert seen.sent_before == 5
    assert [path.name for path in sorted(seen.run.iterdir())] == ["0", "1", "2", "3"]


def test_sigkill_ends_everything_that_was_started(subject):
    body = """
os.mkdir(out)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(out + "/pid", "w").write(str(child.pid))
time.sleep(60)
"""
    seen = trace(subject(body), moment=Moment(signal.SIGKILL, 3, 0.05))
    assert seen.status == -signal.SIGKILL
    assert gone(int((seen.run / "pid").read_text()))


def test_a_signal_that_comes_too_late_is_not_sent(subject):
    seen = trace(subject("os.mkdir(out)\n"), moment=Moment(signal.SIGKILL, 9, 0.0))
    assert (seen.status, seen.sent) == (0, None)


def test_a_program_that_is_not_there_is_one_line(subject):
    with pytest.raises(GateError, match=r"^no-such-program: No such file or directory$"):
        trace(subject("", command='"no-such-program {out}"'))


def test_a_run_that_hangs_is_ended_with_all_it_started(subject):
    body = 'os.mkdir(out); open(out + "/pid", "w").write(str(os.getpid())); time.sleep(60)\n'
    one = subject(body, said="[run]\ntimeout = 1.5")
    with pytest.raises(GateError, match="did not end within 2 s"):
        trace(one)
    assert gone(int((one.home / "run" / "pid").read_text()))


def test_another_system_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(GateError, match="on Linux, x86-64 or aarch64; this is Darwin"):
        system_calls.this_machine()


def test_the_tracer_imports_nothing_from_the_subject(subject):
    """Neither the subject's folder nor PYTHONPATH is searched by the process that judges."""
    one = subject("os.mkdir(out)\n")
    (one.description.folder / "json.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(one.description.folder))
        assert steps(trace(one)) == [("mkdir", ".")]


# --- the filter, run by a small machine of its own, for processors that are not at hand ---


def decision(program, number, arguments=(0,) * 6, architecture=None):
    """What a seccomp filter answers to a call."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *arguments)
    at, value = 0, 0
    while True:
        code, yes, no, k = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            value = struct.unpack_from("=I", data, k)[0]
        elif code == 0x06:
            return k
        else:
            at += yes if (value == k if code == 0x15 else value & k) else no


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("reads", [False, True])
def test_the_filter_stops_at_what_changes_a_file_and_nothing_else(name, reads):
    machine = MACHINES[name]
    program = system_calls.filter_program(machine, reads=reads)
    numbers = set(machine.numbers.values())

    def asked(call, *arguments):
        given = (*arguments, *(0,) * (6 - len(arguments)))
        return decision(program, machine.numbers.get(call, call), given, machine.audit)

    for call in machine.numbers:
        if call not in ("open", "openat", "ioctl"):
            assert asked(call) == TRACE
    assert asked("openat", 0, 0, os.O_RDONLY | os.O_CLOEXEC) == (TRACE if reads else ALLOW)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC):
        assert asked("openat", 0, 0, flags) == TRACE
    assert [asked("ioctl", 3, request) for request in (*CLONES, 0x5401)] == [TRACE, TRACE, ALLOW]
    assert asked(machine.io_uring_setup) == NO_SUCH_CALL
    assert {asked(n) for n in range(460) if n not in numbers | {machine.io_uring_setup}} == {ALLOW}
    assert decision(program, machine.numbers["write"], architecture=machine.audit ^ 1) == ALLOW


@pytest.mark.parametrize("name", MACHINES)
def test_every_call_of_a_machine_is_known_and_has_a_number_of_its_own(name):
    numbers = MACHINES[name].numbers
    assert numbers.keys() <= CALLS.keys()
    assert len(set(numbers.values())) == len(numbers)
