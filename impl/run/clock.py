"""How long a run took, over all of its processes."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Spent:
    """What a run has taken so far; a checkpoint keeps it in its manifest, beside the digests.

    `wall_seconds` is the time inside the training loop: steps, compiling, evaluating and saving. Not counted are the
    start of each process, reading the data, and the reports after the last step. A process that resumes adds to what
    its checkpoint says; what an earlier one did after that checkpoint, its writing included, is lost.
    `step_seconds` and `step_tokens` are of training steps alone: reading a batch, gradient, update. The first step of
    each process is left out of both, because it compiles the kernels or reads them from their cache.
    """

    wall_seconds: float = 0.0
    step_seconds: float = 0.0
    step_tokens: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Predicted tokens a second of training steps; None if no step was timed."""
        return self.step_tokens / self.step_seconds if self.step_seconds else None

    def as_dict(self) -> dict[str, Any]:
        """The form in which a checkpoint keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """From that form; a number that is missing, as in checkpoints that kept no times, is 0."""
        return cls(
            float(facts.get("wall_seconds", 0.0)),
            float(facts.get("step_seconds", 0.0)),
            int(facts.get("step_tokens", 0)),
        )


ZERO_TIME = Spent()
"""What a run has taken before its first process."""


class Clock:
    """Measures one process of a run and adds it to what the run had spent before."""

    def __init__(self, before: Spent = ZERO_TIME) -> None:
        self._before = before
        self._began = time.monotonic()
        self._steps, self._seconds, self._tokens = 0, 0.0, 0
        self.last_step = 0.0
        """Seconds of the step that ended last."""

    def start_step(self) -> None:
        """A training step begins."""
        self._step_began = time.monotonic()

    def end_step(self, tokens: int) -> None:
        """The step that began last is done; it predicted this many tokens."""
        self.last_step = time.monotonic() - self._step_began
        if self._steps:
            self._seconds += self.last_step
            self._tokens += tokens
        self._steps += 1

    def speed(self, updates: int) -> tuple[float | None, float | None]:
        """(tokens a second, seconds that so many more updates take), of this process; None before a timed step."""
        if self._steps < 2:
            return None, None
        return self._tokens / self._seconds, updates * (self._seconds / (self._steps - 1))

    def spent(self) -> Spent:
        """By the whole run until now."""
        return Spent(
            self._before.wall_seconds + time.monotonic() - self._began,
            self._before.step_seconds + self._seconds,
            self._before.step_tokens + self._tokens,
        )
