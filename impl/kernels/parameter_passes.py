"""Passes over all parameters, in chunks that threads share; results do not depend on the number of threads."""

from impl.kernels.adamw import adamw
from impl.kernels.elementwise import add_and_clear, reduce_and_clear, sum_in_order
from impl.kernels.reduce import REDUCTION_BLOCK, sum_squares
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.ticket_counters import DONE, NEXT_ITEM, fetch_add, wait_until

CHUNK = REDUCTION_BLOCK
"""Parameters in a chunk. Equal to REDUCTION_BLOCK, so that the sum over chunks of `sum_squares` is bit for bit that of
the whole array."""


@kernel
def chunk_count(size):
    """The number of chunks of `size` parameters."""
    return -(-size // CHUNK)


@kernel
def finish_gradients(counters, accumulators, head_accumulators, out, squares):
    """out [n] = the sum of the accumulators [2, n]; those of the tied head, [2, k], are added to the first k elements.

    The first k elements are the gradient of E. All accumulators are zeroed. squares[i], float64, is the sum of the
    squares of chunk i of `out`. Returns when all chunks are done, whichever threads did them; counters as in
    runtime/ticket_counters.py.
    """
    i = fetch_add(counters, NEXT_ITEM, 1)
    while i < squares.size:
        first, last = i * CHUNK, min((i + 1) * CHUNK, out.size)
        reduce_and_clear(accumulators[0, first:last], accumulators[1, first:last], out[first:last])
        head_last = max(min(last, head_accumulators.shape[1]), first)
        for a in range(head_accumulators.shape[0]):
            add_and_clear(out[first:head_last], head_accumulators[a, first:head_last])
        squares[i] = sum_squares(out[first:last])
        fetch_add(counters, DONE, 1)
        i = fetch_add(counters, NEXT_ITEM, 1)
    wait_until(counters, DONE, squares.size)


@kernel
def total_squares(squares):
    """The sum over all chunks, one after the other."""
    return sum_in_order(0.0, squares)


@kernel
def update(counters, p, g, m, v, decayed, scalars):
    """`adamw` of flat arrays [n]. Returns when all chunks are done, whichever threads did them."""
    i = fetch_add(counters, NEXT_ITEM, 1)
    while i < chunk_count(p.size):
        chunk = slice(i * CHUNK, min((i + 1) * CHUNK, p.size))
        adamw(p[chunk], g[chunk], m[chunk], v[chunk], decayed[chunk], scalars)
        fetch_add(counters, DONE, 1)
        i = fetch_add(counters, NEXT_ITEM, 1)
    wait_until(counters, DONE, chunk_count(p.size))
