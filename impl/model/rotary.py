"""The tables of the rotary position embedding (Su et al. 2021), and the rotation of queries and keys."""

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from impl.kernels import rotary

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Rotary:
    """cos and sin, [context, H * K], of position * base^(-2i/K), and K/2."""

    cosine: Array
    signed_sine: Array
    """sin, with the sign changed in the first half of a head: see kernels/rotary.py."""
    signed_sine_backward: Array
    """-signed_sine, which rotates back."""
    half_head: int

    @classmethod
    def tables(cls, context: int, heads: int, head_size: int, base: float, dtype: Any) -> "Rotary":
        """The tables for positions 0 to context - 1; the powers are correctly rounded decimals."""
        half = head_size // 2
        with localcontext() as precise:
            precise.prec = 40
            rates = [float(Decimal(base) ** (Decimal(-2 * i) / head_size)) for i in range(half)]
        cosine, sine = np.empty((2, context, half))
        rotary.angles(np.array(rates), cosine, sine)
        cosine = np.tile(np.hstack([cosine, cosine]), heads).astype(dtype)
        signed_sine = np.tile(np.hstack([-sine, sine]), heads).astype(dtype)
        return cls(cosine, signed_sine, -signed_sine, half)

    def rotate(self, x: Array, length: int) -> None:
        """In place: rotate every head of x [B * length, H * K] by the angles of its position."""
        rotary.rotate(x, self.cosine, self.signed_sine, self.half_head, np.arange(len(x)) % length)

    def rotate_back(self, x: Array, length: int) -> None:
        """The inverse rotation, which is also the backward pass of `rotate`."""
        rotary.rotate(x, self.cosine, self.signed_sine_backward, self.half_head, np.arange(len(x)) % length)
