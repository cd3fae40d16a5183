"""Where the time of a step goes: spans of phases, as shares that sum to 1, and as a trace that a browser shows.

The trace is the JSON of Chrome's Trace Event Format: chrome://tracing and ui.perfetto.dev open it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

IDLE = "idle"
Span = tuple[str, int, float, float]
"""(phase, thread, its beginning, its end) in seconds; thread 0 trains."""


def step_profile(spans: Sequence[Span], began: float, ended: float) -> dict[str, float]:
    """Share of each phase in a step, and of "idle", in which no span of thread 0 was; they sum to 1."""
    duration = ended - began
    seconds = dict.fromkeys((phase for phase, *_ in spans), 0.0)
    for phase, thread, start, end in spans:
        if thread == 0:
            seconds[phase] += max(min(end, ended) - max(start, began), 0.0)
    idle = duration - sum(seconds.values())
    return {phase: s / duration for phase, s in seconds.items()} | {IDLE: idle / duration}


@dataclass
class Spans:
    """Collects the phases of a step as they happen."""

    clock: Callable[[], float] = time.perf_counter
    found: list[Span] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note when the body began and ended, also if it raises."""
        began = self.clock()
        try:
            yield
        finally:
            self.found.append((name, 0, began, self.clock()))


def chrome_trace(spans: Sequence[Span], process: str) -> dict[str, Any]:
    """The spans as complete events; times in microseconds from the first one."""
    origin = min((start for *_, start, _ in spans), default=0.0)
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": process}}
    ]
    events += [
        {
            "name": phase,
            "cat": "step",
            "ph": "X",
            "pid": 0,
            "tid": thread,
            "ts": (start - origin) * 1e6,
            "dur": (end - start) * 1e6,
        }
        for phase, thread, start, end in spans
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def table(shares: dict[str, float], seconds: float) -> str:
    """One line a phase, the longest first: its share and its milliseconds; the last line is the whole step."""
    rows = [(name, share) for name, share in sorted(shares.items(), key=lambda row: -row[1])]
    lines = [f"{name:<12}{100 * share:7.2f} %{1e3 * share * seconds:12.3f} ms" for name, share in rows]
    return "\n".join([*lines, f"{'step':<12}{100 * sum(shares.values()):7.2f} %{1e3 * seconds:12.3f} ms"])
