"""Tables of the rotary position embedding (Su et al. 2021), and the turn itself."""

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from impl.kernels import rotary

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Rotary:
    """cos and sin, [context, H * K], of position * base^(-2i/K), and the feature that each feature turns with."""

    cosine: Array
    sine: Array
    """Negative for the first half of a head."""
    partner: Array

    @classmethod
    def tables(cls, context: int, heads: int, head_size: int, base: float, dtype: Any) -> "Rotary":
        """The powers by correctly rounded decimals."""
        half = head_size // 2
        with localcontext() as precise:
            precise.prec = 40
            rates = [float(Decimal(base) ** (Decimal(-2 * i) / head_size)) for i in range(half)]
        cosine, sine = np.empty((2, context, half))
        rotary.angles(np.array(rates), cosine, sine)
        features = np.arange(heads * head_size)
        return cls(
            np.tile(np.hstack([cosine, cosine]), heads).astype(dtype),
            np.tile(np.hstack([-sine, sine]), heads).astype(dtype),
            np.where(features % head_size < half, features + half, features - half),
        )

    def turn(self, x: Array, length: int) -> None:
        """In place: every head of x [B * T, H * K] by the angles of its position."""
        rotary.rotate(x, self.cosine, self.sine, self.partner, length)

    def turn_back(self, x: Array, length: int) -> None:
        """The inverse, and the backward pass of `turn`."""
        rotary.rotate_back(x, self.cosine, self.sine, self.partner, length)
