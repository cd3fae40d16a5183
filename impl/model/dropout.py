"""The dropout of one update: its rate and random stream, and where in the update a micro-batch begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.kernels.dropout import apply_mask_in_place, dropout_mask
from impl.kernels.forward_backward import DropoutParams

if TYPE_CHECKING:  # only type checkers need jaxtyping, and importing it takes time
    from jaxtyping import UInt32

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Dropout:
    """Rate, Philox key, number of the update (from 0), and how many of its sequences come before the micro-batch."""

    rate: float
    key: UInt32[np.ndarray, " 2"]
    step: int
    sequence_offset: int = 0

    @property
    def threshold(self) -> Any:
        """An element is dropped if its 32 random bits are below this."""
        return np.uint32(self.rate * 2.0**32)

    def scale(self, dtype: Any) -> Any:
        """1 / (1 - rate), by which the elements that are kept are multiplied."""
        return np.dtype(dtype).type(1.0 / (1.0 - self.rate))

    def advance(self, sequences: int) -> Dropout:
        """The dropout of the next micro-batch, `sequences` being the size of this one."""
        return replace(self, sequence_offset=self.sequence_offset + sequences)

    def apply(self, x: Array, site: int, length: int, context: int) -> Array | None:
        """Apply dropout to x [B * length, D] in place. Returns the mask, bool of that shape; None if the rate is 0."""
        if self.rate == 0.0:
            return None
        keep = np.empty(x.shape, np.bool_)
        sequence, position = np.divmod(np.arange(len(x)), length)
        mask_index = (self.sequence_offset + sequence) * context + position
        dropout_mask(self.key, self.step, site, self.threshold, mask_index, keep)
        apply_mask_in_place(x, keep, self.scale(x.dtype))
        return keep

    def params(self, context: int, dtype: Any) -> DropoutParams:
        """What the kernels need."""
        return DropoutParams(self.rate > 0.0, self.key, self.step, self.threshold, self.scale(dtype), context)


NO_DROPOUT = Dropout(0.0, np.zeros(2, np.uint32), 0)
