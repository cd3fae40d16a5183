"""MiniGPT: a pre-LayerNorm decoder with rotary positions and a tied head; its parameters and their gradients.

What happens to the rows of a batch is in layers.py, what is summed over them in weight_gradients.py; here they are
dealt out to the threads.
"""

from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from impl.activations import Activations, Kept
from impl.config import ModelConfig
from impl.data import Batch
from impl.kernels import elementwise
from impl.kernels.gemm import ROWS
from impl.layers import Dropout, Rows
from impl.parameters import named_views, parameter_count, parameter_shapes
from impl.rotary import Rotary
from impl.team import Team, share_of, team
from impl.weight_gradients import add_share

Array = np.ndarray[Any, np.dtype[Any]]


class MiniGPT:
    """Parameters, gradients and activations; the first state machine.

    Logits are [B, T, V]. Inside, positions are rows: [B * T, D]. Gradients are added to until `zero_gradients`.
    """

    def __init__(
        self, config: ModelConfig, dtype: str, parameters: dict[str, Array], threads: Team | None = None
    ) -> None:
        self.config = config
        self.dtype = dtype
        self._team = threads or team()
        shapes = parameter_shapes(config)
        self.flat_parameters, self.flat_gradients = np.zeros((2, parameter_count(config)), dtype)
        self.parameters = named_views(self.flat_parameters, shapes)
        self.gradients = named_views(self.flat_gradients, shapes)
        self.head_gradient = np.zeros_like(self.gradients["E"])
        """Of the tied head; apart from the embedding's, so that each is one sum over the tokens of a window."""
        self.restore(parameters)
        matrices = (name for name, shape in shapes.items() if len(shape) == 2)
        self.transposed = {name: np.empty(shapes[name][::-1], dtype) for name in matrices}
        """Contiguous transposes: a product wants the rows of its right side contiguous."""
        self._kept = Kept(dtype)
        number = np.dtype(dtype).type
        self.norm_eps = number(config.ln_eps)
        self.score_scale = number(1.0 / np.sqrt(config.d_model // config.n_heads))

    @cached_property
    def rotary(self) -> Rotary:
        config = self.config
        head_size = config.d_model // config.n_heads
        return Rotary.tables(config.context, config.n_heads, head_size, config.rope_base, self.dtype)

    def state(self) -> dict[str, Array]:
        """A copy of every parameter by name."""
        return {name: value.copy() for name, value in self.parameters.items()}

    def restore(self, state: dict[str, Array]) -> None:
        """Overwrite every parameter; names and shapes must be this model's."""
        for name, value in self.parameters.items():
            value[...] = state[name]

    # ---- gradients

    def zero_gradients(self) -> None:
        self.flat_gradients[:] = 0.0
        self.head_gradient[:] = 0.0

    def accumulate(self, batch: Batch, dropout: Dropout | None, tokens: int, nll: float = 0.0) -> float:
        """Add the gradient of this batch's part of the mean over `tokens`, those of the whole window.

        Returns `nll` plus the batch's negative log-likelihoods in nats, added one after the other.
        """
        kept = self._forward(batch.input, batch.key_mask, dropout, batch, 1.0 / max(tokens, 1))
        self._team.run(
            lambda share, shares: add_share(self, kept, batch.input, share, shares),
            self.config.d_model // ROWS,
        )
        return float(elementwise.sum_onto(nll, kept.rows("nll", 1)[:, 0]))

    def finish_gradients(self) -> None:
        """After the last batch of a window: the two gradients of E become one."""
        elementwise.add(self.gradients["E"], self.head_gradient, self.gradients["E"])

    # ---- forward

    def nll(self, batch: Batch, nll: float = 0.0) -> float:
        """`nll` plus the negative log-likelihoods, in nats, of the unmasked targets, one by one; no dropout."""
        kept = self._forward(batch.input, batch.key_mask, None, batch)
        return float(elementwise.sum_onto(nll, kept.rows("nll", 1)[:, 0]))

    def forward(
        self,
        tokens: Int[np.ndarray, "B T"],
        key_mask: Bool[np.ndarray, "B T"],
    ) -> Float[np.ndarray, "B T V"]:
        """Logits without dropout; the array is reused by the next call."""
        return self.forward_layers(tokens, key_mask)["logits"]

    def forward_layers(
        self, tokens: Int[np.ndarray, "B T"], key_mask: Bool[np.ndarray, "B T"]
    ) -> dict[str, Array]:
        """What each layer puts out: embed_out, block_i_out, final_ln_out, logits; reused by the next call."""
        kept = self._forward(tokens, key_mask, None)
        blocks = (f"block_{i}_out" for i in range(self.config.n_layers))
        names = ["embed_out", *blocks, "final_ln_out", "logits"]
        return {name: kept.rows(name, 0).reshape(*tokens.shape, -1) for name in names}

    def _forward(
        self,
        tokens: Array,
        key_mask: Array,
        dropout: Dropout | None,
        batch: Batch | None = None,
        weight: float | None = None,
    ) -> Activations:
        """All that the passes leave: forward, with a batch its losses, with a weight its backward pass as well."""
        kept = self._kept.of(*tokens.shape)
        self._transpose(("E",) if weight is None else tuple(self.transposed))

        def some_rows(share: int, shares: int) -> None:
            rows = Rows(self, kept, key_mask, dropout, share_of(len(tokens), share, shares))
            rows.forward(tokens)
            if batch is not None:
                rows.loss(batch.target, batch.loss_mask, self.norm_eps.dtype.type(weight or 0.0))
            if weight is not None:
                rows.backward()

        self._team.run(some_rows, len(tokens))
        return kept

    def _transpose(self, names: tuple[str, ...]) -> None:
        for name in names:
            elementwise.transpose(self.parameters[name], self.transposed[name])
