"""A worker: a thread that takes work items of a batch until none is left, and computes their losses and gradients.

The sequences of an update (of all its micro-batches) form groups of SEQUENCES_PER_GROUP; a work item is a group or an
equal part of one. A gradient is the sum of two accumulators: group g belongs to accumulator g % ACCUMULATORS. All
workers compute in parallel, but additions to one accumulator are made in the order of its items; with two accumulators
they wait half as much. The number of accumulators is fixed, as it determines the order of summation. So the result is
bitwise reproducible: it depends on the order of the sequences in the update alone, not on the number of threads, the
size of an item or the cut into micro-batches. Below, "batch" is one micro-batch.
"""

from typing import Any, NamedTuple

from impl.kernels.forward_backward import (
    FIRST_BRANCH,
    HEAD,
    TRANSPOSE_CLAIMED,
    TRANSPOSE_DONE,
    WorkItem,
    backward,
    forward,
    transpose_matrices,
)
from impl.kernels.loss import cross_entropy
from impl.kernels.memory_layout import WIDE_MODEL, ItemShape, outer_activations
from impl.kernels.objective import add_penalties, soft_cap_backward
from impl.kernels.packing import PackedRows, pack
from impl.kernels.runtime.compile import kernel, numba_inlined, orchestrating_kernel
from impl.kernels.runtime.memory import CACHE_LINE
from impl.kernels.runtime.ticket_counters import DONE, NEXT_ITEM, fetch_add, wait_until

Array = Any

ACCUMULATORS = 2
SEQUENCES_PER_GROUP = 8
"""A power of two."""
COUNTERS_PER_LINE = CACHE_LINE // 8
ITEM_ROWS, ITEM_ROWS_WIDE = 224, 256
"""Upper bound on sequences * T in an item of two or more sequences, T the padded length of the batch.

The activations of 224 rows stay in a core's cache. The matrices of a wide model do not fit into it; its items have more
rows, so that each matrix is read less often."""


class Workspace(NamedTuple):
    """The memory of a worker, which every work item reuses: flat arrays, large enough for any item."""

    activations: Array
    """See kernels/memory_layout.py."""
    keep: Array
    """bool: the dropout mask of every site."""
    packed: PackedRows
    losses: Array
    """float64"""
    passes: Array
    """int64 [layers + 1]: see `WorkItem`."""


class Results(NamedTuple):
    """What the workers write; each sum is formed in the order of the work items."""

    losses: Array
    """float64 [B, T]: the loss of every target, 0 outside the loss mask."""
    penalties: Array
    """float64 [B, T]: what the objective adds to the losses; [0, T] if that is nothing."""
    gradients: Array
    """[ACCUMULATORS, parameters]"""
    head_gradients: Array
    """[ACCUMULATORS, V, D]: the gradients of E as the tied head.

    Those of E as the embedding are in `gradients`. An item adds to the head first and to the embedding last; in one
    sum, the next item could begin its backward pass only after the whole backward pass of this one."""
    counters: Array
    """int64 [ACCUMULATORS, counter_count(shape)], all 0 at the start."""


@kernel
def counter_count(shape):
    """The number of counters of an accumulator, rounded up to whole cache lines."""
    return -(-(FIRST_BRANCH + 2 * shape.n_layers) // COUNTERS_PER_LINE) * COUNTERS_PER_LINE


@orchestrating_kernel
def run_worker(worker, batch, model, dropout, workspace, results, loss_scale, with_gradients):
    """Take part in computing a batch's losses and, `with_gradients`, the gradients of `loss_scale` times their sum.

    `loss_scale` is 1 / (predicted tokens of the whole update), so that the sums of all micro-batches make the mean.

    Returns when the whole batch is done, whichever workers did it. Worker i begins with the items of accumulator
    i % ACCUMULATORS, then helps with the others.
    """
    if fetch_add(results.counters[0], TRANSPOSE_CLAIMED, 1) == 0:  # the first worker to arrive
        transpose_matrices(model.weights, model.transposes, model.shape)
        fetch_add(results.counters[0], TRANSPOSE_DONE, 1)
    wait_until(results.counters[0], TRANSPOSE_DONE, 1)
    sequences, length = batch.input.shape
    offset, item_size = batch.sequence_offset, sequences_per_item(length, model.shape.d_model)
    for i in range(ACCUMULATORS):
        accumulator = (worker + i) % ACCUMULATORS
        counters = results.counters[accumulator]
        while True:
            number = fetch_add(counters, NEXT_ITEM, 1)
            first = item_start(number, accumulator, item_size, offset) - offset
            if first >= sequences:
                break
            start = max(first, 0)
            stop = max(
                min(first + item_size, sequences), start
            )  # equal if the item ends before this batch begins
            _run_item(
                number,
                accumulator,
                start,
                stop,
                batch,
                model,
                dropout,
                workspace,
                results,
                loss_scale,
                with_gradients,
            )
            fetch_add(counters, DONE, 1)
    for accumulator in range(ACCUMULATORS):
        items = 0
        while item_start(items, accumulator, item_size, offset) < offset + sequences:
            items += 1
        wait_until(results.counters[accumulator], DONE, items)


@kernel
def sequences_per_item(length, d_model):
    """The number of sequences of this length in a work item: a power of two, at most SEQUENCES_PER_GROUP."""
    sequences, rows = SEQUENCES_PER_GROUP, ITEM_ROWS if d_model < WIDE_MODEL else ITEM_ROWS_WIDE
    while sequences > 1 and sequences * length > rows:
        sequences //= 2
    return sequences


@kernel
def item_start(number, accumulator, item_size, sequence_offset):
    """The sequence of the update with which item `number` of an accumulator starts; an item has `item_size` sequences.

    Item boundaries are multiples of `item_size`, counted over the whole update; the number restarts at 0 in each
    micro-batch, at the accumulator's first group at or after that of `sequence_offset`, its first sequence.
    """
    group, items_per_group = sequence_offset // SEQUENCES_PER_GROUP, SEQUENCES_PER_GROUP // item_size
    group += (accumulator - group) % ACCUMULATORS + number // items_per_group * ACCUMULATORS
    return group * SEQUENCES_PER_GROUP + number % items_per_group * item_size


@numba_inlined
def _run_item(
    number, accumulator, start, stop, batch, model, dropout, workspace, results, loss_scale, with_gradients
):
    """Compute the losses and gradients of an item, the sequences from `start` to before `stop` of the batch."""
    losses, counters = results.losses[start:stop], results.counters[accumulator]
    losses[:] = 0.0
    penalties = results.penalties[start:stop]  # no rows where nothing is added to the cross-entropy
    penalties[:] = 0.0
    packed = pack(batch, start, stop, dropout.context, workspace.packed)
    if packed.input.size > 0:
        memory = workspace.activations, workspace.keep, workspace.passes
        item = WorkItem(number, packed, item_shape(packed), memory[0], memory[1], memory[2])
        forward(item, model, dropout)
        _losses(item, model, loss_scale, workspace.losses, losses, penalties)
        if with_gradients:
            gradients, head_gradient = results.gradients[accumulator], results.head_gradients[accumulator]
            backward(item, model, dropout, gradients, head_gradient, counters)
    elif (
        with_gradients
    ):  # an empty item adds nothing, but must still take its turn at every counter of gradients
        for i in range(HEAD, FIRST_BRANCH + 2 * model.shape.n_layers):
            wait_until(counters, i, number)
            fetch_add(counters, i, 1)


@kernel
def item_shape(packed):
    """`ItemShape` of packed rows."""
    longest = 0
    for n in range(packed.starts.size - 1):
        longest = max(longest, packed.starts[n + 1] - packed.starts[n])
    return ItemShape(packed.input.size, packed.starts.size - 1, longest)


@numba_inlined
def _losses(item, model, loss_scale, buffer, losses, penalties):
    """Compute dlogits, and the losses [sequences, T], from the logits; buffer float64 [n_rows or more].

    penalties [sequences, T] is what the objective adds to the losses, or [0, T] if that is nothing.
    """
    outer = outer_activations(item.activations, item.shape, model.shape)
    packed, nll, objective = item.packed, buffer[: item.shape.n_rows], model.objective
    cross_entropy(outer.logits, packed.target, packed.loss_mask, loss_scale, nll, outer.dlogits)
    for n in range(item.shape.n_sequences):
        for i in range(packed.starts[n], packed.starts[n + 1]):
            losses[n, packed.position[i]] = nll[i]
    smoothing, z_loss, cap = objective.label_smoothing, objective.z_loss, objective.softcap
    if penalties.shape[0] > 0:
        targets, mask = packed.target, packed.loss_mask
        add_penalties(outer.logits, targets, mask, loss_scale, smoothing, z_loss, nll, outer.dlogits)
        for n in range(item.shape.n_sequences):
            for i in range(packed.starts[n], packed.starts[n + 1]):
                penalties[n, packed.position[i]] = nll[i]
    if cap > 0.0:
        soft_cap_backward(outer.logits, cap, 1.0, outer.dlogits)
