"""Batches of token sequences, and the data iterator, the fourth state machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.rng import permutation

if TYPE_CHECKING:  # only type checkers need jaxtyping, and importing it takes time
    from jaxtyping import Bool, Int

PAD = 0


@dataclass(frozen=True)
class Batch:
    """Next-token prediction: target[b, t] is the token after input[b, t].

    `loss_mask` marks the targets in the loss, `key_mask` the positions that may be attended to: here, all but padding.
    """

    input: Int[np.ndarray, "B T"]
    target: Int[np.ndarray, "B T"]
    loss_mask: Bool[np.ndarray, "B T"]
    key_mask: Bool[np.ndarray, "B T"]

    @property
    def tokens(self) -> int:
        """How many tokens are predicted."""
        return int(np.count_nonzero(self.loss_mask))

    def select(self, rows: Int[np.ndarray, " N"]) -> Batch:
        """Copies of these rows, padded to the longest of them."""
        length = int(self._lengths[rows].max())
        return Batch(*(x[rows, :length] for x in self._arrays))

    def split(self, count: int) -> list[Batch]:
        """Split the batch into at most `count` micro-batches, in order."""
        if count == 1:
            return [self]
        columns = [np.array_split(x, min(count, len(x))) for x in self._arrays]
        return [Batch(*arrays) for arrays in zip(*columns, strict=True)]

    @cached_property
    def _lengths(self) -> Int[np.ndarray, " B"]:
        return np.count_nonzero(self.key_mask, axis=1)

    @property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.input, self.target, self.loss_mask, self.key_mask


def make_batch(sequences: Sequence[Sequence[int]]) -> Batch:
    """Shift each sequence by one and pad on the right to the longest."""
    length = max(len(sequence) for sequence in sequences) - 1
    inputs, targets = np.full((2, len(sequences), length), PAD, np.int64)
    mask = np.zeros((len(sequences), length), np.bool_)
    for row, sequence in enumerate(sequences):
        count = len(sequence) - 1
        inputs[row, :count], targets[row, :count] = sequence[:-1], sequence[1:]
        mask[row, :count] = True
    return Batch(inputs, targets, mask, mask.copy())


class DataIterator:
    """Batches without end; every epoch visits each sequence once, in an order that is a function of (seed, epoch).

    The last batch of an epoch is smaller if the batch size does not divide the number of sequences.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], batch_size: int, seed: int) -> None:
        self._all = make_batch(sequences)
        self._batch_size = batch_size
        self._seed = seed
        self._order = -1, np.zeros(0, np.int64)  # an epoch, and the order of its sequences
        self.epoch = 0
        self.position = 0

    def next_batch(self) -> Batch:
        """The coming batch; afterwards `epoch` is its epoch, until the next call."""
        sequences = len(self._all.input)
        if self.position >= sequences:
            self.epoch += 1
            self.position = 0
        if self._order[0] != self.epoch:
            self._order = self.epoch, permutation(self._seed, sequences, self.epoch)
        rows = self._order[1][self.position : self.position + self._batch_size]
        self.position += len(rows)
        return self._all.select(rows)

    @property
    def epoch_is_done(self) -> bool:
        """Whether the batch given out last is the last of its epoch."""
        return self.position >= len(self._all.input)

    @property
    def batches_an_epoch(self) -> int:
        """How many batches an epoch has, a smaller last one included."""
        return -(-len(self._all.input) // self._batch_size)

    @property
    def tokens_an_epoch(self) -> int:
        """How many tokens are predicted in an epoch."""
        return self._all.tokens

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
