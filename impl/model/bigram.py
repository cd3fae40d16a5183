"""A bigram language model, the smallest with an embedding and a head: logits = dropout(E[input]) @ W_out + b.

The properties train it, so that they check the same update as a training run makes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from impl.data.iterator import Batch
from impl.kernels import elementwise, loss
from impl.kernels.dropout import apply_mask_in_place
from impl.kernels.gemm import gemm
from impl.kernels.reduce import sum_squares
from impl.model.dropout import NO_DROPOUT, Dropout
from impl.model.language_model import LanguageModel

Array = np.ndarray[Any, np.dtype[Any]]

CONTEXT = 4096
"""The longest sequence, for the numbering of dropout masks."""


class BigramModel(LanguageModel):
    """Parameters E [V, D], W_out [D, V] and b [V]."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        shapes = {name: value.shape for name, value in parameters.items()}
        super().__init__(parameters["E"].dtype.name, shapes, parameters)

    def zero_gradients(self) -> None:
        self.flat_gradients[:] = 0.0

    def accumulate(
        self, batch: Batch, dropout: Dropout, tokens: int, running_nll: float = 0.0, scale: float = 1.0
    ) -> float:
        x, keep, losses, dlogits = self._forward(batch, dropout, scale / max(tokens, 1))
        gemm(x.T, dlogits, self.gradients["W_out"], True)
        elementwise.add_rows(dlogits, self.gradients["b"])
        dx = np.empty_like(x)
        gemm(dlogits, np.ascontiguousarray(self.parameters["W_out"].T), dx, False)
        if keep is not None:
            apply_mask_in_place(dx, keep, dropout.scale(self.dtype))
        elementwise.scatter_add_rows(dx, batch.input.reshape(-1), self.gradients["E"])
        return float(elementwise.sum_in_order(running_nll, losses))

    def finish_gradients(self) -> float:
        return float(sum_squares(self.flat_gradients))

    def nll(self, batch: Batch, running_nll: float = 0.0) -> float:
        return float(elementwise.sum_in_order(running_nll, self._forward(batch, NO_DROPOUT, 0.0)[2]))

    def _forward(
        self, batch: Batch, dropout: Dropout, loss_scale: float
    ) -> tuple[Array, Array | None, Array, Array]:
        """The head's input [B * T, D], its dropout mask, and what `cross_entropy` returns."""
        x = np.empty((batch.input.size, self.parameters["E"].shape[1]), self.dtype)
        elementwise.gather_rows(self.parameters["E"], batch.input.reshape(-1), x)
        keep = dropout.apply(x, 0, batch.input.shape[1], CONTEXT)
        logits = np.empty((len(x), self.parameters["b"].size), self.dtype)
        elementwise.fill_rows(self.parameters["b"], logits)
        gemm(x, self.parameters["W_out"], logits, True)
        return x, keep, *cross_entropy(logits, batch.target, batch.loss_mask, loss_scale)


def cross_entropy(logits: Array, target: Array, loss_mask: Array, loss_scale: float) -> tuple[Array, Array]:
    """Losses [N] in nats, 0 outside the loss mask, and `loss_scale` times their sum's gradient to the logits [N, V]."""
    nll, dlogits = np.empty(len(logits)), np.empty_like(logits)
    scale = logits.dtype.type(loss_scale)
    loss.cross_entropy(logits, target.reshape(-1), loss_mask.reshape(-1), scale, nll, dlogits)
    return nll, dlogits
