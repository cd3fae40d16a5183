"""What the training loop needs of a language model; its parameters are the first of the five state machines."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from impl.data.iterator import Batch
from impl.kernels.runtime.memory import aligned_zeros
from impl.model.dropout import Dropout
from impl.model.parameters import named_views

Array = np.ndarray[Any, np.dtype[Any]]


class LanguageModel(ABC):
    """Named parameters and gradients, which are views of two flat buffers of one dtype.

    An update begins with `zero_gradients`, calls `accumulate` for each micro-batch and ends with `finish_gradients`;
    only then are the gradients valid.
    """

    def __init__(
        self, dtype: str, shapes: Mapping[str, tuple[int, ...]], parameters: Mapping[str, Array]
    ) -> None:
        count = sum(math.prod(shape) for shape in shapes.values())
        self.dtype, self.shapes = dtype, dict(shapes)
        self.penalised = False
        """Whether the objective is more than the cross-entropy."""
        self.penalty = 0.0
        """Nats that the objective of the present update adds to its cross-entropy, summed over the tokens."""
        self.flat_parameters, self.flat_gradients = aligned_zeros(count, dtype), aligned_zeros(count, dtype)
        self.parameters = named_views(self.flat_parameters, shapes)
        self.gradients = named_views(self.flat_gradients, shapes)
        self.restore(parameters)

    def state(self) -> dict[str, Array]:
        """A copy of every parameter by name."""
        return {name: value.copy() for name, value in self.parameters.items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Overwrite every parameter; `state` has an array of the same shape for each name."""
        for name, value in self.parameters.items():
            value[...] = state[name]

    @abstractmethod
    def zero_gradients(self) -> None:
        """Begin an update."""

    @abstractmethod
    def accumulate(
        self, batch: Batch, dropout: Dropout, tokens: int, running_nll: float = 0.0, scale: float = 1.0
    ) -> float:
        """Add the gradient of `scale` (the batch's summed loss) / `tokens`, those that all micro-batches predict.

        Returns `running_nll` plus the batch's negative log-likelihoods in nats, added one after the other.
        """

    @abstractmethod
    def finish_gradients(self) -> float:
        """Complete the gradients of an update; returns the sum of their squares."""

    @abstractmethod
    def nll(self, batch: Batch, running_nll: float = 0.0) -> float:
        """As `accumulate` returns, but without dropout and gradients."""
