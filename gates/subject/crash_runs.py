"""Runs that are resumed after a crash: from the states that a kill at a file event leaves, and after real signals.

The states come from one traced run (`Places.whole`). Each is put into a directory of its own and resumed there, to the
end. Equal states are tried once.
"""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from gates.errors import GateError
from gates.subject.commanded import CommandedSubject
from gates.subject.file_events import Event
from gates.subject.run_places import Places, share_equal_files
from gates.subject.saves import Save, completed, lasting, read_families, saves
from gates.subject.traced_runs import Moment, Traced, last_line, trace

LEAST, MOST_RENAMES = 20, 12
"""States that are tried at least, if there are as many; renames of which the states on both sides are tried at most."""
AFTER = 8
"""Events after the last act of a save that still belong to it: a folder that is synced, an old checkpoint removed."""
ATTEMPTS = 5
SHARES = {"terminate": (0.1, 0.6), "kill-early": (0.0, 0.5), "kill-late": (0.5, 0.95)}
"""From which part of the time between the first and the last file event a signal's moment is drawn."""


@dataclass(frozen=True)
class Resumed:
    """An interrupted run and what became of it."""

    moment: str
    """Where it was interrupted, in words."""
    kind: str
    """The kind of event, or the signal."""
    complete: Counter[str]
    """Family -> its saves that were complete by then."""
    status: int
    said: str
    """Status and last line of the command that resumed it."""
    read: frozenset[str]
    """Families of saves of which it read something."""
    made: Counter[str]
    """Family -> saves that it made."""
    run: Path
    """The directory in the end: after it was resumed, or after `again`."""
    again: tuple[int, str] | None = None
    """If it was not resumed: status and last line of the command that trains, started in the same directory."""
    ended: int = 0
    """Status with which the interrupted process ended."""
    stood: Path | None = None
    """A copy of the directory as it was before it was resumed, if it was the process that chose where to end."""


@dataclass(frozen=True)
class Crashes:
    """Every interrupted run of a check, and the run that they must equal."""

    whole: Path
    total: Counter[str]
    """Family -> saves that the whole run made."""
    tried: list[Resumed]
    of: str
    """How many states and events there are, in words."""
    again: frozenset[str] = frozenset()
    """Families that any of the resumed runs read."""


def crash_everywhere(places: Places, *, every: bool) -> Crashes:
    """Resume from the states between the file events: all of them, or those that `choose` draws."""
    whole = places.whole
    made = saves(whole.events)
    first = first_events(whole)
    chosen = sorted(first.values()) if every else choose(whole, made, places.session.chance("events"))
    with ThreadPoolExecutor(1 if places.tied else 2) as workers:
        tried = list(workers.map(lambda number: _from_state(places, whole, made, number), chosen))
    events = sum(1 for event in whole.events if event.kind != "torn")
    of = f"{len(tried)} of {len(first)} states, {events} file events"
    if whole.full:
        of += "; later states are not kept: they take more than the limit"
    return _crashes(places, made, tried, of)


def crash(places: Places, number: signal.Signals, *windows: str) -> Crashes:
    """Send a signal at a drawn moment, once in each window, and resume."""
    tried = [_after_signal(places, window, number) for window in windows]
    return _crashes(
        places, saves(places.whole.events), tried, f"{len(tried)} moment" + "s" * (len(tried) > 1)
    )


def _crashes(places: Places, made: Sequence[Save], tried: list[Resumed], of: str) -> Crashes:
    read = frozenset().union(*(resumed.read for resumed in tried))
    return Crashes(places.whole.run, Counter(save.family for save in made), tried, of, read)


def first_events(whole: Traced) -> dict[int, int]:
    """State -> number of the first event before which the directory was in it; the last state is after all events."""
    first: dict[int, int] = {}
    for number, event in enumerate(whole.events):
        if event.state is not None:
            first.setdefault(event.state, number)
    if whole.last is not None:
        first.setdefault(whole.last, len(whole.events))
    return first


def choose(whole: Traced, made: Sequence[Save], chance: random.Random) -> list[int]:
    """Events before which the run is killed, each for a state of its own.

    Always one of each kind of event inside the first, a middle and the last save of the checkpoints, the states on
    both sides of renames, the first state and the last; and others, drawn.
    """
    events, first = whole.events, first_events(whole)
    wanted = {0, len(events)}
    checkpoints = [save for save in made if save.family == lasting(made)]
    for save in {*checkpoints[:1], *checkpoints[len(checkpoints) // 2 :][:1], *checkpoints[-1:]}:
        span = range(save.first, min(save.last + AFTER, len(events)))
        for kind in sorted({events[number].kind for number in span}):
            wanted.add(chance.choice([number for number in span if events[number].kind == kind]))
    renames = [number for number, event in enumerate(events) if event.kind in ("rename", "link") and event.to]
    ends = {save.last for save in (checkpoints[:1] + checkpoints[-1:])} & set(renames)
    others = [number for number in renames if number not in ends]
    drawn = chance.sample(others, min(len(others), MOST_RENAMES - len(ends)))
    wanted |= {side for number in [*ends, *drawn] for side in (number, number + 1)}
    states = {_state(whole, number) for number in wanted} - {None}
    rest = sorted(first.keys() - states)
    states |= set(chance.sample(rest, min(len(rest), max(0, LEAST - len(states)))))
    return sorted(first[state] for state in states if state is not None)


def _state(whole: Traced, number: int) -> int | None:
    return whole.events[number].state if number < len(whole.events) else whole.last


def _from_state(places: Places, whole: Traced, made: Sequence[Save], number: int) -> Resumed:
    name, state = f"event-{number:05d}", _state(whole, number)
    assert state is not None
    with places.place(name) as subject:
        run = subject.home / "run"
        if whole.snapshots.states[state]:
            whole.snapshots.restore(state, run)
        moment, kind = _moment(whole.events, number)
        resumed = _resume(subject, moment, kind, completed(made, number), places.limit)
        if run.is_dir():
            share_equal_files(run, whole.run)
    return replace(resumed, run=places.found(name))


def _moment(events: Sequence[Event], number: int) -> tuple[str, str]:
    """Where the run is killed, in words: before the event of that number, or inside it."""
    if number == len(events):
        return f"after the last of {len(events)} events", "end"
    event = events[number]
    if event.kind == "torn":
        return f"inside the write of {event.path} (event {number} of {len(events)})", "torn"
    to = f" to {event.to}" if event.to else ""
    return f"before {event.kind} of {event.path}{to} (event {number} of {len(events)})", event.kind


def _resume(
    subject: CommandedSubject, moment: str, kind: str, complete: Counter[str], limit: float
) -> Resumed:
    """Resume to the end; if that is refused, train again in the same directory."""
    run, again = subject.home / "run", None
    try:
        seen = trace(subject, resume=True, reads=True, limit=limit)
    except GateError as error:  # it hangs: tracing itself has worked before
        return Resumed(moment, kind, complete, -signal.SIGKILL, str(error), frozenset(), Counter(), run)
    made = saves(seen.events)
    if seen.status != 0:
        finished = subject.start().wait(subject.description.run.timeout)
        again = finished.status, last_line(finished)
    read = read_families(seen.events, complete.keys() | {save.family for save in made})
    counts = Counter(save.family for save in made)
    return Resumed(moment, kind, complete, seen.status, seen.said, frozenset(read), counts, run, again)


def _after_signal(places: Places, window: str, number: signal.Signals) -> Resumed:
    """Run until a drawn moment, send the signal, wait for the end, resume. GateError if it always ended before."""
    chance = places.session.chance(window)
    for attempt in range(ATTEMPTS):
        name = f"{window}-{attempt}"
        with places.place(name) as subject:
            seen = trace(subject, moment=draw(places.whole.events, chance, window, number))
            if seen.sent is None:
                continue
            killed = number == signal.SIGKILL
            complete = completed(
                saves(seen.events, ended=not killed), len(seen.events) if killed else seen.sent_before
            )
            moment = f"{number.name} after {seen.sent:.2f} s, {seen.sent_before} file events"
            shutil.copytree(seen.run, subject.home / "stood", symlinks=True) if seen.run.is_dir() else None
            resumed = _resume(subject, moment, number.name, complete, places.limit)
        run = places.found(name)
        return replace(resumed, run=run, ended=seen.status, stood=run.with_name("stood"))
    raise GateError(f"{ATTEMPTS} times the run had ended before {number.name} was sent")


def draw(events: Sequence[Event], chance: random.Random, window: str, number: signal.Signals) -> Moment:
    """A moment between the first and the last file event of a run, in seconds after the event before it."""
    times = [event.seconds for event in events if event.kind != "torn"]
    low, high = SHARES[window]
    moment = times[0] + (low + (high - low) * chance.random()) * (times[-1] - times[0])
    before = sum(1 for time in times if time <= moment)
    return Moment(number, before, moment - times[before - 1])
