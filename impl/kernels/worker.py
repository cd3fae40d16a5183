"""A worker: a thread that takes work items of a batch until none is left, and computes their losses and gradients.

The sequences of an update (of all its micro-batches) form groups of SEQUENCES_PER_GROUP. A gradient is the sum of two
accumulators, so that two workers need not wait for each other: group g belongs to accumulator g % ACCUMULATORS, and
each accumulator adds the rows of its groups in order. The bits depend on nothing else. A work item is a group or an
equal part of one.
"""

from typing import Any, NamedTuple

from impl.kernels.forward_backward import (
    BRANCHES,
    HEAD,
    TRANSPOSE_CLAIMED,
    TRANSPOSE_DONE,
    WorkItem,
    backward,
    forward,
    transpose_matrices,
)
from impl.kernels.loss import cross_entropy
from impl.kernels.packing import PackedRows, pack
from impl.kernels.runtime.compile import inline_kernel, kernel
from impl.kernels.runtime.memory import CACHE_LINE
from impl.kernels.runtime.ordered import DONE, NEXT_ITEM, fetch_add, wait_until
from impl.kernels.views import WIDE_MODEL, ItemShape, scratch

Array = Any

ACCUMULATORS = 2
SEQUENCES_PER_GROUP = 8
"""A power of two."""
COUNTERS_PER_LINE = CACHE_LINE // 8
ITEM_ROWS, ITEM_ROWS_WIDE = 224, 256
"""The most rows of a work item (a single sequence may have more), counted as if every sequence had the batch's length.

The activations of 224 rows stay in a core's cache. The matrices of a wide model do not fit into it; its items have more
rows, so that each matrix is read less often."""


class Workspace(NamedTuple):
    """The memory of a worker, which every work item reuses: flat arrays, large enough for any item."""

    activations: Array
    """`SavedActivations` of every block, then `Scratch`."""
    keep: Array
    """bool: the dropout mask of every site."""
    rows: PackedRows
    losses: Array
    """float64"""


class Results(NamedTuple):
    """What the workers write; each sum is formed in the order of the work items."""

    losses: Array
    """float64 [B, T]: the loss of every target, 0 outside the loss mask."""
    gradients: Array
    """[ACCUMULATORS, parameters]"""
    head_gradients: Array
    """[ACCUMULATORS, V, D]: the gradients of E as the output head."""
    counters: Array
    """int64 [ACCUMULATORS, counter_count(model)], all 0 at the start."""


@kernel
def counter_count(model):
    """How many counters an accumulator has, rounded up to whole cache lines."""
    return -(-(BRANCHES + 2 * model.layers) // COUNTERS_PER_LINE) * COUNTERS_PER_LINE


@kernel
def run_worker(worker, batch, model, dropout, workspace, results, weight, with_gradients):
    """Take part in computing a batch's losses and, `with_gradients`, the gradients of `weight` times their sum.

    Returns when the whole batch is done, whichever workers did it. Worker i begins with the items of accumulator
    i % ACCUMULATORS, then helps with the others.
    """
    if fetch_add(results.counters[0], TRANSPOSE_CLAIMED, 1) == 0:  # true in the first worker
        transpose_matrices(model.parameters, model.transposes, model.shape)
        fetch_add(results.counters[0], TRANSPOSE_DONE, 1)
    wait_until(results.counters[0], TRANSPOSE_DONE, 1)
    sequences, length = batch.input.shape
    size = sequences_per_item(length, model.shape.width)
    for i in range(ACCUMULATORS):
        a = (worker + i) % ACCUMULATORS
        while True:
            n = fetch_add(results.counters[a], NEXT_ITEM, 1)
            first = first_sequence(n, a, size, batch.first_sequence) - batch.first_sequence
            if first >= sequences:
                break
            start = max(first, 0)
            stop = max(min(first + size, sequences), start)  # equal if the item ends before this batch begins
            _run_item(n, start, stop, batch, model, dropout, workspace, results, a, weight, with_gradients)
            fetch_add(results.counters[a], DONE, 1)
    for a in range(ACCUMULATORS):
        items = 0
        while first_sequence(items, a, size, batch.first_sequence) < batch.first_sequence + sequences:
            items += 1
        wait_until(results.counters[a], DONE, items)


@kernel
def sequences_per_item(length, width):
    """How many sequences of this length a work item has: a power of two, at most SEQUENCES_PER_GROUP."""
    sequences, rows = SEQUENCES_PER_GROUP, ITEM_ROWS if width < WIDE_MODEL else ITEM_ROWS_WIDE
    while sequences > 1 and sequences * length > rows:
        sequences //= 2
    return sequences


@kernel
def first_sequence(number, accumulator, size, batch_start):
    """The first sequence of item `number` of an accumulator, in a batch that begins with sequence `batch_start`.

    Sequences are counted from the beginning of the update, items from the beginning of the batch; an item has `size`
    sequences.
    """
    group, items_per_group = batch_start // SEQUENCES_PER_GROUP, SEQUENCES_PER_GROUP // size
    group += (accumulator - group) % ACCUMULATORS + number // items_per_group * ACCUMULATORS
    return group * SEQUENCES_PER_GROUP + number % items_per_group * size


@inline_kernel
def _run_item(number, start, stop, batch, model, dropout, workspace, results, a, weight, with_gradients):
    """Losses and gradients of the sequences from `start` to before `stop`; a is the number of the accumulator."""
    losses, counters = results.losses[start:stop], results.counters[a]
    losses[:] = 0.0
    rows = pack(batch, start, stop, dropout.context, workspace.rows)
    if rows.input.size > 0:
        item = WorkItem(number, rows, item_shape(rows), workspace.activations, workspace.keep)
        forward(item, model, dropout)
        _losses(item, model, weight, workspace.losses, losses)
        if with_gradients:
            gradients, head_gradient = results.gradients[a], results.head_gradients[a]
            backward(item, model, dropout, gradients, head_gradient, counters)
    elif with_gradients:
        for i in range(HEAD, BRANCHES + 2 * model.shape.layers):
            wait_until(counters, i, number)
            fetch_add(counters, i, 1)


@kernel
def item_shape(rows):
    """`ItemShape` of packed rows."""
    longest = 0
    for n in range(rows.starts.size - 1):
        longest = max(longest, rows.starts[n + 1] - rows.starts[n])
    return ItemShape(rows.input.size, rows.starts.size - 1, longest)


@inline_kernel
def _losses(item, model, weight, buffer, losses):
    """From logits to dlogits and losses [sequences, T]; buffer float64 [rows or more]."""
    s, rows, nll = scratch(item.activations, item.shape, model.shape), item.rows, buffer[: item.shape.rows]
    cross_entropy(s.logits, rows.target, rows.loss_mask, weight, nll, s.dlogits)
    for n in range(item.shape.sequences):
        for i in range(rows.starts[n], rows.starts[n + 1]):
            losses[n, rows.position[i]] = nll[i]
