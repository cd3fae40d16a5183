"""A batch, and the rows that the passes go through: the positions of some of its sequences, without the padding.

A sequence is cut behind its last target that counts: what follows it changes no loss, as attention is causal, and its
gradient is 0.
"""

from typing import Any, NamedTuple

from impl.kernels.gemm import ROWS
from impl.kernels.runtime.compile import kernel

Array = Any


class Tokens(NamedTuple):
    """A batch, as impl/data/iterator.py has it, all [B, T]; and the number of its first sequence in the window."""

    input: Array
    target: Array
    loss_mask: Array
    key_mask: Array
    first: int


class Rows(NamedTuple):
    """Sequence after sequence, and rows of no sequence at the end, to fill a tile of `gemm`."""

    starts: Array
    """int64 [sequences + 1]: the first row of each sequence, and of what belongs to none."""
    input: Array
    target: Array
    counted: Array
    """bool, whether the target is."""
    key_mask: Array
    position: Array
    """int64, in the sequence."""
    place: Array
    """int64, in the window, if each of its sequences had the model's whole context."""


@kernel
def whole_tiles(rows):
    """The same number or the next that fills tiles of `gemm`."""
    return -(-rows // ROWS) * ROWS


@kernel
def any_foreign(tokens, vocabulary):
    """Whether an input, or a target that counts, is none of so many tokens."""
    for b in range(tokens.input.shape[0]):
        for t in range(tokens.input.shape[1]):
            for token, read in ((tokens.input[b, t], True), (tokens.target[b, t], tokens.loss_mask[b, t])):
                if read and not 0 <= token < vocabulary:
                    return True
    return False


@kernel
def counted_length(loss_mask):
    """1 + the last position of loss_mask [T] that counts; 0 if none does."""
    for t in range(loss_mask.size - 1, -1, -1):
        if loss_mask[t]:
            return t + 1
    return 0


@kernel
def rows_of(tokens, start, stop, context, room):
    """`Rows` of the sequences from `start` to before `stop`, in those of `room`."""
    n = 0
    for b in range(start, stop):
        room.starts[b - start] = n
        for t in range(counted_length(tokens.loss_mask[b])):
            room.input[n], room.target[n] = tokens.input[b, t], tokens.target[b, t]
            room.counted[n], room.key_mask[n] = tokens.loss_mask[b, t], tokens.key_mask[b, t]
            room.position[n], room.place[n] = t, (tokens.first + b) * context + t
            n += 1
    room.starts[stop - start] = n
    whole = whole_tiles(n)
    for empty in range(n, whole):
        room.input[empty] = room.target[empty] = room.position[empty] = room.place[empty] = 0
        room.counted[empty] = room.key_mask[empty] = False
    return Rows(
        room.starts[: stop - start + 1],
        room.input[:whole],
        room.target[:whole],
        room.counted[:whole],
        room.key_mask[:whole],
        room.position[:whole],
        room.place[:whole],
    )
