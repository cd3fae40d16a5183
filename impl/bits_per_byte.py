"""Bits per byte: the nats of a text over ln 2 times its bytes (Gao et al. 2020); special tokens count in neither."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from impl.kernels.elementwise import sum_in_order

Array = np.ndarray[Any, np.dtype[Any]]


def token_bytes(vocabulary: Sequence[bytes], special: Iterable[int]) -> list[int]:
    """The number of bytes of each token, by id; 0 for the special ones."""
    without = set(special)
    return [0 if token in without else len(text) for token, text in enumerate(vocabulary)]


def target_bytes(targets: Array, token_bytes: Array) -> Array:
    """The bytes of each target, of the shape of the targets; 0 for those below 0, which are ignored."""
    return np.where(targets >= 0, token_bytes[np.maximum(targets, 0)], 0)


def bits_per_byte(
    batches: Iterable[tuple[Array, Array]], token_bytes: Array, budget: int | None = None
) -> float:
    """Of batches of (nll [B, T] in nats, targets [B, T]), as long as their tokens fit into the budget.

    Infinite where there are no bytes. Sums are in float64 and in order.
    """
    nats, count, read = 0.0, 0, 0
    for nll, targets in batches:
        read += targets.size
        if budget is not None and read > budget:
            break
        size = target_bytes(targets, token_bytes)
        nats = float(sum_in_order(nats, nll[size > 0].astype(np.float64)))
        count += int(size.sum())
    return bits(nats, count)


def bits(nats: float, count: int) -> float:
    """Bits per byte of a sum of nats over `count` bytes; infinite without bytes."""
    return nats / (math.log(2.0) * count) if count else math.inf
