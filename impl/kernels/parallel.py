"""Passes over all parameters, share by share: which thread takes a share changes nothing."""

from impl.kernels.adamw import adamw
from impl.kernels.elementwise import sum_onto, take_onto, take_sum
from impl.kernels.reduce import STRETCH, sum_squares
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.ordered import DONE, NEXT_PIECE, take, wait_for_turn

SHARE = STRETCH
"""Numbers; as many as `sum_squares` adds up by themselves."""
COUNTERS = DONE + 1
"""Of `turns`, all 0 at the start: int64."""


@kernel
def count(size):
    """Shares of so many numbers."""
    return -(-size // SHARE)


@kernel
def finish_gradients(turns, chains, head_chains, out, squares):
    """out [n] = the sum of the two chains [2, n]; those of the tied head [2, k] are added to its first k <= n numbers.

    All chains become 0. squares[i], float64, is the sum of the squares of share i. Returns when all is done, whoever
    did it.
    """
    i = take(turns, NEXT_PIECE)
    while i < squares.size:
        first, last = i * SHARE, min((i + 1) * SHARE, out.size)
        take_sum(chains[0, first:last], chains[1, first:last], out[first:last])
        of_head = max(min(last, head_chains.shape[1]), first)
        for chain in range(head_chains.shape[0]):
            take_onto(out[first:of_head], head_chains[chain, first:of_head])
        squares[i] = sum_squares(out[first:last])
        take(turns, DONE)
        i = take(turns, NEXT_PIECE)
    wait_for_turn(turns, DONE, squares.size)


@kernel
def total(squares):
    """Of all shares, one after the other."""
    return sum_onto(0.0, squares)


@kernel
def update(turns, p, g, m, v, decayed, scalars):
    """`adamw` of flat arrays [n]. Returns when all is done, whoever did it."""
    i = take(turns, NEXT_PIECE)
    while i < count(p.size):
        some = slice(i * SHARE, min((i + 1) * SHARE, p.size))
        adamw(p[some], g[some], m[some], v[some], decayed[some], scalars)
        take(turns, DONE)
        i = take(turns, NEXT_PIECE)
    wait_for_turn(turns, DONE, count(p.size))
