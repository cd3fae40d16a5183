"""Batches, and the iterator that hands them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from torch_phase18 import chance
from torch_phase18.tokenizer import PAD


@dataclass(frozen=True)
class Batch:
    """Next-token prediction, all [B, T]; `real` marks what is not padding: the loss, and the keys of attention."""

    tokens: Tensor
    target: Tensor
    real: Tensor

    @property
    def predicted(self) -> int:
        """How many tokens are predicted."""
        return int(self.real.sum())

    def parts(self, count: int) -> list["Batch"]:
        """At most `count` micro-batches, in order."""
        three = [x.tensor_split(min(count, len(x))) for x in (self.tokens, self.target, self.real)]
        return [Batch(*arrays) for arrays in zip(*three, strict=True)]


def batch_of(sequences: Sequence[Sequence[int]]) -> Batch:
    """The sequences, padded on the right; the target is one token later."""
    rows = [torch.tensor(ids) for ids in sequences]
    whole = pad_sequence(rows, batch_first=True, padding_value=PAD)
    lengths = torch.tensor([len(row) - 1 for row in rows])
    real = torch.arange(whole.shape[1] - 1) < lengths[:, None]
    return Batch(whole[:, :-1].masked_fill(~real, PAD), whole[:, 1:].contiguous(), real)


class Batches:
    """Every epoch visits each sequence once; its last batch has what is left."""

    def __init__(self, sequences: Sequence[Sequence[int]], size: int, seed: str) -> None:
        self.sequences, self.size, self.seed = sequences, size, seed
        self.epoch = self.position = 0
        self.known: tuple[int, list[int]] = (-1, [])

    def rows(self) -> list[int]:
        """The indices of the coming batch; afterwards `epoch` is its epoch, until the next call."""
        if self.position >= len(self.sequences):
            self.epoch, self.position = self.epoch + 1, 0
        if self.known[0] != self.epoch:
            self.known = self.epoch, chance.order(self.seed, len(self.sequences), self.epoch)
        rows = self.known[1][self.position : self.position + self.size]
        self.position += len(rows)
        return rows

    def batch(self, rows: Sequence[int]) -> Batch:
        """The sequences of these indices."""
        return batch_of([self.sequences[i] for i in rows])

    def state(self) -> dict[str, Any]:
        """Where it stands."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        """Stand there."""
        self.epoch, self.position = state["epoch"], state["position"]
