"""Runs of a commanded subject under file_events.py: what they did to the run directory; signals at drawn moments."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gates.errors import GateError
from gates.subject.commanded import CommandedSubject
from gates.subject.file_events import Event
from gates.subject.process import Finished
from gates.subject.snapshots import Snapshots
from honestloop.guarded_files import FILE_LIMIT, UnreadableError, read_json
from honestloop.suite_location import INSTALLED, ROOT, in_suite

START = (
    "import runpy, sys; root, module = sys.argv[1:3]; del sys.argv[1:3]; root and sys.path.insert(0, root); "
    "runpy.run_module(module, run_name='__main__', alter_sys=True)"
)
"""The tracer imports nothing from where the subject is (python -I), and finds itself."""
LIMIT = 2 << 30
"""Bytes that the states of one run may take."""


@dataclass(frozen=True)
class Moment:
    """When a signal is sent: after so many file events that change something, and so many seconds more."""

    number: int
    events: int
    delay: float


@dataclass(frozen=True)
class Traced:
    """A run, as it was seen from outside."""

    run: Path
    status: int
    """Of the command itself; negative for the signal that ended it."""
    said: str
    """Its last line."""
    events: list[Event]
    snapshots: Snapshots
    last: int | None
    """The state in which it left its directory."""
    full: bool
    """Whether states were left out, because they would have taken more than the limit."""
    sent: float | None
    """When the signal was sent, in seconds since the start; None if it ended before."""
    sent_before: int
    """Number of the first event after that."""
    seconds: float
    """How long it took."""
    cpu: float
    """Seconds of processor time that it took."""


def trace(
    subject: CommandedSubject,
    *,
    resume: bool = False,
    states: bool = False,
    reads: bool = False,
    moment: Moment | None = None,
    limit: float | None = None,
) -> Traced:
    """Train, or resume, in `home/run` to the end, whatever the status. GateError if it cannot be traced or hangs."""
    record = subject.home / f"trace-{sum(1 for _ in subject.home.glob('trace-*')):02d}"
    record.mkdir(parents=True)
    run = subject.home / "run"
    under = [sys.executable, "-I", "-c", START, "" if INSTALLED else str(ROOT), _module()]
    under += ["--watch", str(run), "--record", str(record)]
    under += ["--limit", str(LIMIT)] if states else []
    under += ["--reads"] if reads else []
    if moment:
        under += ["--signal", str(moment.number), "--events", str(moment.events), f"--delay={moment.delay}"]
    process = replace(subject, under=[*under, "--"]).start(resume=resume)
    finished = process.wait(limit or subject.description.run.timeout)
    return _read(run, record, finished)


def last_line(finished: Finished) -> str:
    """The last thing that a process said."""
    return (finished.stderr.strip() or finished.stdout.strip() or "(silent)").splitlines()[-1]


def _module() -> str:
    return in_suite("gates.subject.file_events")


def _read(run: Path, record: Path, finished: Finished) -> Traced:
    said = last_line(finished)
    try:
        seen: dict[str, Any] = read_json(record / "trace.json", FILE_LIMIT)
    except UnreadableError:
        raise GateError(said) from None
    events = [Event(**event) for event in seen["events"]]
    changing = [number for number, event in enumerate(events) if event.kind not in ("torn", "read", "open")]
    before = changing[seen["at"] - 1] + 1 if seen["sent"] is not None and seen["at"] else 0
    return Traced(
        run,
        seen["status"],
        said,
        events,
        Snapshots(record / "pack", seen["pieces"], seen["contents"], seen["states"]),
        seen["last"],
        seen["full"],
        seen["sent"],
        before,
        finished.seconds,
        seen["cpu"],
    )
