"""One step's dropout, as the passes and `properties/` want it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.kernels.dropout import dropout_keep
from impl.kernels.forward_backward import Dropping

if TYPE_CHECKING:  # a start has better things to do
    from jaxtyping import UInt32

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Dropout:
    """Rate, Philox key, step number (counted from 0), and where in the window a batch begins."""

    rate: float
    key: UInt32[np.ndarray, " 2"]
    step: int
    first_row: int = 0

    @property
    def threshold(self) -> Any:
        """An entry is dropped if its 32 random bits are below this."""
        return np.uint32(self.rate * 2.0**32)

    def scale(self, dtype: Any) -> Any:
        """What an entry that is kept is multiplied with."""
        return np.dtype(dtype).type(1.0 / (1.0 - self.rate))

    def behind(self, sequences: int) -> Dropout:
        """That of the batch that follows one of so many sequences in the window."""
        return Dropout(self.rate, self.key, self.step, self.first_row + sequences)

    def keep(self, site: int, length: int, context: int, out: Array) -> None:
        """Fill `out`, bool [B * T, D], with what this site keeps."""
        sequence, position = np.divmod(np.arange(len(out)), length)
        places = (self.first_row + sequence) * context + position
        dropout_keep(self.key, self.step, site, self.threshold, places, out)

    def dropping(self, context: int, dtype: Any) -> Dropping:
        """The same for kernels."""
        return Dropping(self.rate > 0.0, self.key, self.step, self.threshold, self.scale(dtype), context)


NO_DROPOUT = Dropout(0.0, np.zeros(2, np.uint32), 0)
