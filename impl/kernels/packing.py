"""Packing: the sequences of a batch one after the other as rows, without padding.

A sequence is cut after its last target in the loss mask. What follows changes no loss, as attention is causal, and its
gradient is 0.
"""

from typing import Any, NamedTuple

from impl.kernels.gemm import TILE_ROWS
from impl.kernels.runtime.compile import kernel

Array = Any


class BatchArrays(NamedTuple):
    """The arrays of an impl.data.iterator.Batch, all [B, T].

    `sequence_offset` is the number of sequences in the update's micro-batches before this one.
    """

    input: Array
    target: Array
    loss_mask: Array
    key_mask: Array
    sequence_offset: int


class PackedRows(NamedTuple):
    """Rows, one per position, of consecutive sequences; padding fills the last tile of `gemm`."""

    starts: Array
    """int64 [sequences + 1], cumulative lengths (`cu_seqlens`): the first row of each sequence, and of the padding."""
    input: Array
    target: Array
    loss_mask: Array
    key_mask: Array
    position: Array
    """int64, the position in the sequence."""
    mask_index: Array
    """int64, the row's number in the dropout masks of the update: see kernels/dropout.py."""


@kernel
def round_up_to_tile_rows(n):
    """The least multiple of TILE_ROWS that is at least n."""
    return -(-n // TILE_ROWS) * TILE_ROWS


@kernel
def has_out_of_vocab(batch, vocab_size):
    """Whether an input, or a target in the loss mask, is no token id from 0 to vocab_size - 1."""
    for b in range(batch.input.shape[0]):
        for t in range(batch.input.shape[1]):
            for token, is_read in ((batch.input[b, t], True), (batch.target[b, t], batch.loss_mask[b, t])):
                if is_read and not 0 <= token < vocab_size:
                    return True
    return False


@kernel
def cut_length(loss_mask):
    """1 + the last position where loss_mask [T] is true; 0 if there is none."""
    for t in range(loss_mask.size - 1, -1, -1):
        if loss_mask[t]:
            return t + 1
    return 0


@kernel
def pack(batch, start, stop, context, buffers):
    """`PackedRows` of the sequences from `start` to before `stop`, written to the beginning of the arrays `buffers`."""
    n = 0
    for b in range(start, stop):
        buffers.starts[b - start] = n
        for t in range(cut_length(batch.loss_mask[b])):
            buffers.input[n], buffers.target[n] = batch.input[b, t], batch.target[b, t]
            buffers.loss_mask[n], buffers.key_mask[n] = batch.loss_mask[b, t], batch.key_mask[b, t]
            buffers.position[n] = t
            buffers.mask_index[n] = (batch.sequence_offset + b) * context + t
            n += 1
    buffers.starts[stop - start] = n
    n_rows = round_up_to_tile_rows(n)
    for i in range(n, n_rows):
        buffers.input[i] = buffers.target[i] = buffers.position[i] = buffers.mask_index[i] = 0
        buffers.loss_mask[i] = buffers.key_mask[i] = False
    return PackedRows(
        buffers.starts[: stop - start + 1],
        buffers.input[:n_rows],
        buffers.target[:n_rows],
        buffers.loss_mask[:n_rows],
        buffers.key_mask[:n_rows],
        buffers.position[:n_rows],
        buffers.mask_index[:n_rows],
    )
