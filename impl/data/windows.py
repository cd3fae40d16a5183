"""Windows: the batches of an update, drawn from the data iterator one after the other; and what has been drawn.

The counters are exact integers: updates, predicted tokens of these updates, and the place in the data. Their law is
reference/progress_counters.py.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Protocol

from impl.data.iterator import Batch
from impl.errors import UsageError

Leftover = Literal["update", "carry", "drop"]


class Source(Protocol):
    """What windows are made of: batches without end, of which each epoch has as many."""

    epoch: int
    """Of the batch given out last."""

    @property
    def epoch_is_done(self) -> bool:
        """Whether the batch given out last is the last of its epoch."""

    @property
    def batches_an_epoch(self) -> int:
        """How many batches an epoch has."""

    def next_batch(self) -> Batch:
        """The coming batch."""


@dataclass
class Counters:
    """Steps, tokens and epochs of a run, three counts that are not each other; a state machine of its own."""

    tokens_an_epoch: int
    """Predicted tokens of the training data."""
    steps: int = 0
    """Updates made."""
    tokens: int = 0
    """Predicted tokens of the windows of these updates."""
    epoch: int = 0
    given: int = 0
    """Predicted tokens given out in the present epoch; those that are dropped as well."""

    @property
    def epochs(self) -> Fraction:
        """Whole passes over the data, and the share of the present one, exactly."""
        return self.epoch + Fraction(self.given, self.tokens_an_epoch)

    def draw(self, epoch: int, tokens: int) -> None:
        """Count a batch of this epoch that is given out."""
        if epoch != self.epoch:
            self.epoch, self.given = epoch, 0
        self.given += tokens

    def update(self, tokens: int) -> None:
        """Count an update of a window with this many predicted tokens."""
        self.steps += 1
        self.tokens += tokens

    def record(self) -> dict[str, Any]:
        """What the log says of them; `epochs` is rounded once."""
        return {"tokens_seen": self.tokens, "epochs": float(self.epochs)}

    def state(self) -> dict[str, Any]:
        counts = {"steps": self.steps, "tokens": self.tokens, "epoch": self.epoch, "given": self.given}
        return {**counts, "window_position": 0}

    def restore(self, state: dict[str, Any]) -> None:
        if int(state["window_position"]) != 0:
            raise UsageError("counters: a checkpoint is made between windows, this one says inside of one")
        self.steps, self.tokens = int(state["steps"]), int(state["tokens"])
        self.epoch, self.given = int(state["epoch"]), int(state["given"])


class Windows:
    """The batches of one update after the other: `accumulate` of them, and what `leftover` says at an epoch's end.

    "update": those left over are an update. "carry": the window goes on in the next epoch. "drop": they are given out
    and not trained on. UsageError if every window would be dropped.
    """

    def __init__(
        self, data: Source, accumulate: int, leftover: Leftover, counters: Counters | None = None
    ) -> None:
        if leftover == "drop" and data.batches_an_epoch < accumulate:
            raise UsageError(
                f"leftover = 'drop': an epoch has {data.batches_an_epoch} batches, a window has {accumulate}: "
                "nothing would be trained"
            )
        self._data, self._accumulate, self._leftover = data, accumulate, leftover
        self.counters = counters

    def next(self) -> list[Batch]:
        """The batches of the next update, in order."""
        window: list[Batch] = []
        while len(window) < self._accumulate:
            window.append(self._data.next_batch())
            if self.counters:
                self.counters.draw(self._data.epoch, window[-1].tokens)
            if self._data.epoch_is_done and len(window) < self._accumulate:
                if self._leftover == "update":
                    break
                if self._leftover == "drop":
                    window.clear()
        return window
