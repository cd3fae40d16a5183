"""Tables of the rotary position embedding (Su et al. 2021), and the turn itself."""

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from impl.kernels import rotary

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Rotary:
    """cos and sin, [context, H * K], of position * base^(-2i/K), and half the size of a head."""

    cosine: Array
    sine: Array
    """Negative for the first half of a head."""
    back: Array
    """sin of the negative angles."""
    half: int

    @classmethod
    def tables(cls, context: int, heads: int, head_size: int, base: float, dtype: Any) -> "Rotary":
        """The powers by correctly rounded decimals."""
        half = head_size // 2
        with localcontext() as precise:
            precise.prec = 40
            rates = [float(Decimal(base) ** (Decimal(-2 * i) / head_size)) for i in range(half)]
        cosine, sine = np.empty((2, context, half))
        rotary.angles(np.array(rates), cosine, sine)
        cosine = np.tile(np.hstack([cosine, cosine]), heads).astype(dtype)
        sine = np.tile(np.hstack([-sine, sine]), heads).astype(dtype)
        return cls(cosine, sine, -sine, half)

    def turn(self, x: Array, length: int) -> None:
        """In place: every head of x [B * T, H * K] by the angles of its position."""
        rotary.rotate(x, self.cosine, self.sine, self.half, np.arange(len(x)) % length)

    def turn_back(self, x: Array, length: int) -> None:
        """The inverse, and the backward pass of `turn`."""
        rotary.rotate(x, self.cosine, self.back, self.half, np.arange(len(x)) % length)
