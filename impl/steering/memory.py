"""When memory runs out in the middle of an update: the same update again, in micro-batches of half the size."""

from collections.abc import Callable, Sequence
from typing import Any

from impl.data.iterator import Batch
from impl.errors import UsageError


class MicroBatches:
    """Into how many micro-batches a batch is cut; twice as many after each MemoryError.

    An update has the same bits in however many parts it is computed: its gradients are set to zero first, and each row
    has its own dropout masks, so that what was done before memory ran out leaves no trace. The number is kept.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def run(
        self, window: Sequence[Batch], update: Callable[[Sequence[Batch]], Any], begun: Callable[[], bool]
    ) -> Any:
        """update(the batches of the window, each in parts), tried again in more parts until it fits.

        Raises the MemoryError if a part is one row already, and once the update has begun to change what is trained.
        """
        rows = max(len(batch.input) for batch in window)
        while True:
            try:
                return update(in_parts(window, self.parts))
            except MemoryError:
                if begun() or self.parts >= rows:
                    raise
                self.parts = min(2 * self.parts, rows)

    def state(self) -> dict[str, Any]:
        return {"parts": self.parts}

    def restore(self, state: dict[str, Any]) -> None:
        self.parts = int(state["parts"])
        if self.parts < 1:
            raise UsageError(f"a batch in {self.parts} parts")


def in_parts(window: Sequence[Batch], parts: int) -> list[Batch]:
    """Every batch of a window in so many parts, as far as it has rows."""
    return [part for batch in window for part in batch.split(min(parts, len(batch.input)))]
