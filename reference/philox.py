"""Philox4x32-10, the counter-based generator behind every random stream.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.3.
A counter and a key give four 32-bit words; nothing else is remembered, so a draw depends on what is drawn and
never on what was drawn before, by which thread, or in which batch.
"""

import hashlib

import numpy as np
from jaxtyping import Integer, UInt32

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 0xFFFFFFFF


def stream_key(seed: int, stream: str) -> tuple[int, int]:
    """Key of a named stream ("init", "data", "control").

    The first 8 bytes of sha256("SEED/STREAM"), read as two little-endian 32-bit words.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[0:4], "little"), int.from_bytes(digest[4:8], "little")


def philox4x32(counter: UInt32[np.ndarray, "n 4"], key: tuple[int, int]) -> UInt32[np.ndarray, "n 4"]:
    """The ten-round bijection of Philox4x32 on each row of `counter`: four random words for four counter words."""
    c0, c1, c2, c3 = (counter[:, lane].astype(np.uint64) for lane in range(4))
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        high0, low0 = product0 >> np.uint64(32), product0 & np.uint64(MASK)
        high1, low1 = product1 >> np.uint64(32), product1 & np.uint64(MASK)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def counters(first: Integer[np.ndarray, "n"], second: int, number: int) -> UInt32[np.ndarray, "n 4"]:
    """Rows (first, second, low word of `number`, high word of `number`) for first [n]: the layout every stream uses."""
    rows = np.empty((len(first), 4), dtype=np.uint32)
    rows[:, 0] = first
    rows[:, 1] = second
    rows[:, 2] = number & MASK
    rows[:, 3] = number >> 32
    return rows
