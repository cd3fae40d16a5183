"""From token sequences to batches, and the order in which training sees them.

A sequence s of n + 1 tokens is n predictions: input s[:-1], target s[1:]. Rows are padded on the right with <pad>, and
two masks say which positions are real: by place, never by token id. The order of epoch e is a function of (seed, e).
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from reference.philox import counters, philox4x32, stream_key

PAD = 0


def make_batch(
    sequences: list[list[int]],
) -> tuple[Int[np.ndarray, "B T"], Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """(input, target, loss_mask, key_mask) of non-empty sequences; T is the longest input. ValueError for none."""
    length = max(len(s) for s in sequences) - 1
    tokens = np.full((2, len(sequences), length), PAD, dtype=np.int64)
    real = np.zeros((len(sequences), length), dtype=bool)
    for row, s in enumerate(sequences):
        n = len(s) - 1
        tokens[0, row, :n], tokens[1, row, :n], real[row, :n] = s[:-1], s[1:], True
    return tokens[0], tokens[1], real, real.copy()


def epoch_order(n: int, seed: int, epoch: int) -> Int[np.ndarray, "n"]:
    """A permutation of range(n): the stable argsort of one 64-bit Philox word for each index."""
    words = philox4x32(counters(np.arange(n), 0, epoch), stream_key(seed, "data")).astype(np.uint64)
    return np.argsort(words[:, 0] | words[:, 1] << np.uint64(32), kind="stable")


def batches(n: int, batch_size: int, seed: int) -> Iterator[tuple[int, Int[np.ndarray, "b"]]]:
    """(epoch, indices) for ever: each epoch is cut into batches, its last one may be short, none spans two epochs."""
    epoch = 0
    while True:
        order = epoch_order(n, seed, epoch)
        for first in range(0, n, batch_size):
            yield epoch, order[first : first + batch_size]
        epoch += 1


def sample_batch(
    tokens: Int[np.ndarray, "N"], batch_size: int, context: int, seed: int
) -> tuple[Int[np.ndarray, "B C"], Int[np.ndarray, "B C"]]:
    """(input, target): windows of a long text that start anywhere in 0 .. N - C - 1; the target is one token later.

    Every start is as likely, up to 2^-32 (N - C): the high word of a 32-bit draw times N - C. ValueError for N <= C.
    """
    starts = len(tokens) - context
    if starts < 1:
        raise ValueError(f"{len(tokens)} tokens have no window of {context} and a token after it")
    words = philox4x32(counters(np.arange(batch_size), 1, 0), stream_key(seed, "data"))[:, 0]
    first = (words.astype(np.uint64) * np.uint64(starts)) >> np.uint64(32)
    index = first.astype(np.int64)[:, None] + np.arange(context)
    return tokens[index], tokens[index + 1]
