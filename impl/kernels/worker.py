"""A worker: takes pieces of a batch until there are none left, and brings each from its tokens to its gradients.

A gradient is the sum of two chains of `fma`, so that two workers need not wait for each other: sequence n of a window
belongs to the chain n // STRETCH % CHAINS, and each chain adds its rows in order. That is all that the bits depend on.
"""

from typing import Any, NamedTuple

from impl.kernels.forward_backward import Piece, backward, forward, transpose_matrices
from impl.kernels.loss import cross_entropy
from impl.kernels.rows import Rows, rows_of
from impl.kernels.runtime.compile import kernel, part
from impl.kernels.runtime.ordered import (
    BRANCHES,
    DONE,
    HEAD,
    NEXT_PIECE,
    TRANSPOSED,
    TRANSPOSING,
    take,
    wait_for_turn,
)
from impl.kernels.views import WIDE, Size, passing

Array = Any

CHAINS = 2
STRETCH = 8
"""Sequences that follow each other in a chain; a power of two."""
PIECE_ROWS, PIECE_ROWS_WIDE = 224, 256
"""Of a piece at most, counted as if every sequence were as long as the batch's longest; a single one may have more. Few
enough for all that becomes of them to stay in a core's cache; but if the matrices do not fit into it either, as many as
make reading them worth while."""


class Room(NamedTuple):
    """A worker's memory, used for one piece after the other: flat arrays, for as many rows as a piece may have."""

    numbers: Array
    """`Kept` of every block, then `Passing`."""
    keep: Array
    """bool, what each dropout site kept."""
    rows: Rows
    losses: Array
    """float64"""


class Sums(NamedTuple):
    """What all pieces add to, in turn."""

    losses: Array
    """float64 [B, T], of every target; 0 of those that do not count."""
    gradients: Array
    """[CHAINS, parameters]"""
    head_gradients: Array
    """[CHAINS, V, D], of E as the head."""
    turns: Array
    """int64 [CHAINS, turns_size(shape)], all 0 at the start."""


@kernel
def turns_size(shape):
    """Counters of a chain, in whole cache lines."""
    return -(-(BRANCHES + 2 * shape.layers) // 8) * 8


@kernel
def work(worker, tokens, model, dropping, room, sums, weight, backwards):
    """Share in a batch's losses and, if `backwards`, in the gradients of `weight` times their sum.

    Returns when the whole batch is done, by whomever. Each worker begins with another chain, then helps with the rest.
    """
    if take(sums.turns[0], TRANSPOSING) == 0:  # while the others wake
        transpose_matrices(model.parameters, model.transposed, model.shape)
        take(sums.turns[0], TRANSPOSED)
    wait_for_turn(sums.turns[0], TRANSPOSED, 1)
    batch, length = tokens.input.shape
    size = sequences_of(length, model.shape.width)
    for i in range(CHAINS):
        chain = (worker + i) % CHAINS
        while True:
            number = take(sums.turns[chain], NEXT_PIECE)
            begins = first_of(number, chain, size, tokens.first) - tokens.first
            if begins >= batch:
                break
            start = max(begins, 0)
            stop = max(min(begins + size, batch), start)  # none, if the batch begins behind this piece
            _piece(number, start, stop, tokens, model, dropping, room, sums, chain, weight, backwards)
            take(sums.turns[chain], DONE)
    for chain in range(CHAINS):
        pieces = 0
        while first_of(pieces, chain, size, tokens.first) < tokens.first + batch:
            pieces += 1
        wait_for_turn(sums.turns[chain], DONE, pieces)


@kernel
def sequences_of(length, width):
    """How many sequences of this length a piece has: a power of two, at most a stretch."""
    sequences, rows = STRETCH, PIECE_ROWS if width < WIDE else PIECE_ROWS_WIDE
    while sequences > 1 and sequences * length > rows:
        sequences //= 2
    return sequences


@kernel
def first_of(number, chain, size, first):
    """The first sequence of a chain's piece, all numbers from 0, where a batch begins with sequence `first`."""
    stretch = first // STRETCH
    stretch += (chain - stretch) % CHAINS
    in_stretch = STRETCH // size
    return (stretch + number // in_stretch * CHAINS) * STRETCH + number % in_stretch * size


@part
def _piece(number, start, stop, tokens, model, dropping, room, sums, chain, weight, backwards):
    """Sequences start to stop."""
    losses, turns = sums.losses[start:stop], sums.turns[chain]
    losses[:] = 0.0
    rows = rows_of(tokens, start, stop, dropping.context, room.rows)
    if rows.input.size > 0:
        piece = Piece(number, rows, size_of(rows), room.numbers, room.keep)
        forward(piece, model, dropping)
        _losses(piece, model, weight, room.losses, losses)
        if backwards:
            backward(piece, model, dropping, sums.gradients[chain], sums.head_gradients[chain], turns)
    elif backwards:
        for slot in range(HEAD, BRANCHES + 2 * model.shape.layers):
            wait_for_turn(turns, slot, number)
            take(turns, slot)


@kernel
def size_of(rows):
    """`Size` of these rows."""
    longest = 0
    for n in range(rows.starts.size - 1):
        longest = max(longest, rows.starts[n + 1] - rows.starts[n])
    return Size(rows.input.size, rows.starts.size - 1, longest)


@part
def _losses(piece, model, weight, room, losses):
    """From logits to losses [sequences, T] and dlogits."""
    last, rows, nll = passing(piece.room, piece.size, model.shape), piece.rows, room[: piece.size.rows]
    cross_entropy(last.logits, rows.target, rows.counted, weight, nll, last.dlogits)
    for n in range(piece.size.sequences):
        for i in range(rows.starts[n], rows.starts[n + 1]):
            losses[n, rows.position[i]] = nll[i]
