"""What a run has used: updates, predicted tokens, and the seconds of its updates, the first of them left out."""

import time
from typing import Any

now = time.monotonic
"""The clock; tests put another in its place."""


class Budget:
    """A limit on tokens, on seconds, or on both; 0 is no limit.

    The first `excluded_updates` updates of the run (10 are updates 1 to 10) take no time: they compile. A run that is
    resumed goes on counting, and excludes none again.
    """

    def __init__(self, *, seconds: float, tokens: int, excluded_updates: int) -> None:
        self._most_seconds, self._most_tokens, self._excluded = seconds, tokens, excluded_updates
        self.updates, self.tokens, self.seconds = 0, 0, 0.0
        self._began = 0.0

    @property
    def progress(self) -> float:
        """The share of the time that is used, from 0 to 1; what the coming update has as its progress."""
        return min(self.seconds / self._most_seconds, 1.0) if self._most_seconds else 0.0

    @property
    def spent(self) -> bool:
        """Whether a limit is reached, so that no other update follows."""
        late = self._most_seconds > 0 and self.seconds >= self._most_seconds
        return late or (self._most_tokens > 0 and self.tokens >= self._most_tokens)

    def begin(self) -> None:
        """An update begins."""
        self._began = now()

    def end(self, tokens: int) -> None:
        """It is done, and predicted this many tokens."""
        self.add(now() - self._began, tokens)

    def add(self, seconds: float, tokens: int = 0) -> None:
        """An update that took so long; its time counts unless it is one of the first."""
        self.updates += 1
        self.tokens += tokens
        if self.updates > self._excluded:
            self.seconds += seconds

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates, "tokens": self.tokens, "seconds": self.seconds}

    def restore(self, state: dict[str, Any]) -> None:
        self.updates, self.tokens = int(state["updates"]), int(state["tokens"])
        self.seconds = float(state["seconds"])
