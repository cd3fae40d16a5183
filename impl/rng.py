"""Three random streams from one seed; every draw is a function of (seed, stream, counter)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.kernels.normal_random import box_muller
from impl.kernels.philox import philox_block

if TYPE_CHECKING:  # only type checkers need jaxtyping, and importing it takes time
    from jaxtyping import Float, Int, UInt32

ALGORITHM = "philox4x32-10"
STREAMS = ("init", "data", "control")


def stream_key(seed: int, stream: str) -> UInt32[np.ndarray, " 2"]:
    """Philox key of a stream: the first eight bytes of SHA-256("SEED/STREAM") as two little-endian uint32."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return np.frombuffer(digest[:8], dtype="<u4").astype(np.uint32)


def uniform_bits(
    key: UInt32[np.ndarray, " 2"], n: int, c1: int, c2: int, c3: int
) -> UInt32[np.ndarray, "n 4"]:
    """The four words of each counter from (0, c1, c2, c3) to (n - 1, c1, c2, c3)."""
    out = np.empty((n, 4), np.uint32)
    philox_block(key, 0, c1, c2, c3, out)
    return out


def standard_normal(key: UInt32[np.ndarray, " 2"], n: int, c1: int) -> Float[np.ndarray, " n"]:
    """n draws of N(0, 1), float64, from uniform 32-bit words."""
    out = np.empty(n)
    box_muller(uniform_bits(key, (n + 3) // 4, c1, 0, 0).reshape(-1), out)
    return out


def permutation(seed: int, n: int, epoch: int) -> Int[np.ndarray, " n"]:
    """The order of n sequences in an epoch, a function of (seed, epoch): a stable sort of random 64-bit keys."""
    words = uniform_bits(stream_key(seed, "data"), n, 0, epoch & 0xFFFFFFFF, epoch >> 32).astype(np.uint64)
    return np.argsort(words[:, 0] | words[:, 1] << np.uint64(32), kind="stable")


class ControlRNG:
    """The training-control generator, the fifth state machine: it gives each update its dropout masks.

    Its stream is not that of the data, so reading the data differently changes no mask.
    """

    def __init__(self, seed: int) -> None:
        self.key = stream_key(seed, "control")
        self.step = 0

    def next_step(self) -> tuple[UInt32[np.ndarray, " 2"], int]:
        """The key and the number of the coming update; advances by one."""
        step = self.step
        self.step += 1
        return self.key, step

    def state(self) -> dict[str, Any]:
        return {"algorithm": ALGORITHM, "key": [int(word) for word in self.key], "step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        self.key = np.array(state["key"], np.uint32)
        self.step = int(state["step"])
