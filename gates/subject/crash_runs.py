"""Runs that are resumed after a crash: from the states that a kill at a file event leaves, and after real signals.

The states come from one traced run (`Places.whole`). Each is put into a directory of its own and resumed there, to the
end. Equal states are tried once.
"""

import random
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from gates.errors import GateError
from gates.subject.commanded import CommandedSubject
from gates.subject.file_events import Event
from gates.subject.guarded_copy import copy_tree
from gates.subject.run_places import Places, share_equal_files
from gates.subject.saves import Save, completed, family, lasting, read_families, saves
from gates.subject.traced_runs import Moment, Traced, last_line, trace

FEWEST, MOST, BUDGET = 6, 20, 25.0
"""Drawn states are at least and at most so many; between, as many as take so many seconds of processor time."""
WAITING = 4
"""Of the time that a run took, this fraction counts if it hardly computed: a script may wait for something else."""
AFTER = 8
"""Events after the last act of a save that still belong to it: a folder that is synced, an old checkpoint removed."""
ATTEMPTS = 5
SHARES = {"terminate": (0.1, 0.5), "kill-early": (0.0, 0.5), "kill-late": (0.5, 0.95)}
"""From which part of the file events of a run a signal's moment is drawn."""


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
    """A copy of the directory as it was before it was resumed, after a signal."""

    @property
    def hangs(self) -> bool:
        """Whether the command that resumes it did not end."""
        return self.status != 0 and self.again is None


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
    hung = threading.Event()

    def try_state(number: int) -> Resumed | None:
        if hung.is_set():  # one that hangs is enough; every other would take as long
            return None
        resumed = _from_state(places, whole, made, number)
        if resumed.hangs:
            hung.set()
        return resumed

    with ThreadPoolExecutor(1 if places.tied else 2) as workers:
        tried = [resumed for resumed in workers.map(try_state, chosen) if resumed is not None]
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
    """Events before which the run is killed, each for a state of its own; fewer of a script that takes long to begin.

    Always the state before the first save of the checkpoints is complete, those on both sides of the completion of the
    last, and one beside the last rename of each other file that is renamed as often. Then, as long as time allows: the
    state before a middle one is complete, the end, one of each kind of event inside the last, the first and the middle
    save, the states on both sides of other renames, the beginning; and others, drawn.
    """
    events, first = whole.events, first_events(whole)
    checkpoints = [save for save in made if save.family == lasting(made)]
    always, wanted = list[int](), list[int]()
    if checkpoints:
        begin, middle, last = checkpoints[0], checkpoints[len(checkpoints) // 2], checkpoints[-1]
        always = [begin.last, last.last, last.last + 1]
        always += [number + chance.randrange(2) for number in _renames_of_a_save(events, len(checkpoints))]
        wanted = [middle.last, len(events)]
        for save in (last, begin, middle):
            wanted += _one_of_each_kind(events, _span(events, save), chance)
    renames = _renames(events, range(len(events)))
    wanted += [side for number in chance.sample(renames, len(renames)) for side in (number, number + 1)]
    states = dict.fromkeys(_state(whole, number) for number in [*always, *wanted, 0])
    fewest = len({_state(whole, number) for number in always})
    rest = sorted(first.keys() - states.keys())
    order = [state for state in [*states, *chance.sample(rest, len(rest))] if state is not None]
    return sorted(first[state] for state in order[: min(MOST, max(fewest, affordable(whole)))])


def affordable(whole: Traced) -> int:
    """How many states to try, at least and at most so many, if a resume takes as long as the whole run."""
    spent = max(whole.cpu, whole.seconds / WAITING, 1e-3)
    return max(FEWEST, min(MOST, int(BUDGET / spent)))


def _span(events: Sequence[Event], save: Save) -> range:
    return range(save.first, min(save.last + AFTER, len(events)))


def _renames(events: Sequence[Event], span: range) -> list[int]:
    """The renames and links into the run directory."""
    return [number for number in span if events[number].kind in ("rename", "link") and events[number].to]


def _renames_of_a_save(events: Sequence[Event], checkpoints: int) -> list[int]:
    """The last rename of each kind of file that is renamed again and again, and no more often than checkpoints are."""
    kinds = dict[str, list[int]]()
    for number in _renames(events, range(len(events))):
        kinds.setdefault(family(events[number].to), []).append(number)
    return [numbers[-1] for numbers in kinds.values() if 1 < len(numbers) <= checkpoints]


def _one_of_each_kind(events: Sequence[Event], span: range, chance: random.Random) -> list[int]:
    """Events of a span, one of each kind, a torn write first."""
    kinds = sorted({events[number].kind for number in span}, key=lambda kind: (kind != "torn", kind))
    return [chance.choice([number for number in span if events[number].kind == kind]) for kind in kinds]


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
    except GateError:  # tracing has worked before
        said = f"it did not end within {limit:.0f} s"
        return Resumed(moment, kind, complete, -signal.SIGKILL, said, frozenset(), Counter(), run)
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
            if seen.run.is_dir():
                copy_tree(seen.run, subject.home / "stood")
            resumed = _resume(subject, moment, number.name, complete, places.limit)
        run = places.found(name)
        return replace(resumed, run=run, ended=seen.status, stood=run.with_name("stood"))
    raise GateError(f"{ATTEMPTS} times the run had ended before {number.name} was sent")


def draw(events: Sequence[Event], chance: random.Random, window: str, number: signal.Signals) -> Moment:
    """A moment between two file events of a run; drawn by their number, so that a slow disk moves nothing."""
    times = [event.seconds for event in events if event.kind not in ("torn", "open", "read")]
    low, high = SHARES[window]
    place = 1 + (low + (high - low) * chance.random()) * (len(times) - 1)
    before = int(place)
    gap = times[before] - times[before - 1] if before < len(times) else 0.0
    return Moment(number, before, (place - before) * gap)
