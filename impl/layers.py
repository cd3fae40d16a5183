"""Forward and backward pass of MiniGPT over some whole sequences of a batch: what one thread does of a step.

Everything here works on rows, one a position, and writes only its own. What a gradient sums over all rows of a batch is
left to weight_gradients.py.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from impl.activations import Activations
from impl.kernels import elementwise
from impl.kernels.activation import gelu
from impl.kernels.attention import attention, attention_backward, padded
from impl.kernels.dropout import apply_keep, dropout_keep
from impl.kernels.gemm import gemm
from impl.kernels.loss import cross_entropy
from impl.kernels.norm import layer_norm, layer_norm_backward

if TYPE_CHECKING:
    from impl.model import MiniGPT

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Dropout:
    """One step's dropout: rate, Philox key, step number (counted from 0), and where in the window a batch begins."""

    rate: float
    key: UInt32[np.ndarray, "2"]
    step: int
    first_row: int = 0

    @property
    def threshold(self) -> Any:
        """An entry is dropped if its 32 random bits are below this."""
        return np.uint32(self.rate * 2.0**32)

    def keep(self, site: int, length: int, context: int, out: Array) -> None:
        """Fill `out`, bool [B * T, D], with what this site keeps."""
        dropout_keep(self.key, self.step, site, self.threshold, length, context, self.first_row, out)


class Rows:
    """The sequences `which` of a batch: their rows of all activations, and the two passes over them."""

    def __init__(
        self, model: "MiniGPT", kept: Activations, key_mask: Array, dropout: Dropout | None, which: slice
    ) -> None:
        self._model, self._kept, self._which = model, kept, which
        self._config, self._parameters, self._length = model.config, model.parameters, kept.length
        self._slice = slice(which.start * kept.length, which.stop * kept.length)
        self._key_mask = key_mask[which]
        self._dropout = None
        if dropout is not None and dropout.rate > 0.0:
            self._dropout = replace(dropout, first_row=dropout.first_row + which.start)
            self._keep_scale = np.dtype(model.dtype).type(1.0 / (1.0 - dropout.rate))

    def rows(self, name: str, width: int = 0, dtype: Any = None) -> Array:
        """Our rows of an activation; as wide as the model if nothing is said."""
        return self._kept.rows(name, width or self._config.d_model, dtype)[self._slice]

    # ---- forward

    def forward(self, tokens: Int[np.ndarray, "B T"]) -> None:
        """embed_out, block_i_out, final_ln_out and logits of our sequences."""
        x = self.rows("embed_out")
        elementwise.gather_rows(self._parameters["E"], tokens[self._which].reshape(-1), x)
        self._drop(x, 0)
        for i in range(self._config.n_layers):
            after = self.rows(f"block_{i}_out")
            elementwise.add(x, self._attention_branch(i, x), after)
            elementwise.add(after, self._ffn_branch(i, after), after)
            x = after
        normed = self._norm("ln_final", x, "final_ln_out")
        self._product("logits", normed, self._model.transposed["E"])

    def _attention_branch(self, i: int, x: Array) -> Array:
        """Attention(LN(x)) W_o, dropped out."""
        name, heads = f"block_{i}.attn", self._config.n_heads
        normed = self._norm(f"block_{i}.ln1", x)
        q, k, v = (self._product(f"{name}.{p}", normed, self._parameters[f"{name}.W_{p}"]) for p in "qkv")
        for turned in (q, k):
            self._model.rotary.turn(turned, self._length)
        mixed = self.rows(f"{name}.mixed")
        attention(q, k, v, self._key_mask, heads, self._model.score_scale, mixed, self._attention_weights(i))
        out = self._product(f"{name}.out", mixed, self._parameters[f"{name}.W_o"])
        self._drop(out, 1 + 2 * i)
        return out

    def _ffn_branch(self, i: int, x: Array) -> Array:
        """GELU(LN(x) W_1 + b_1) W_2 + b_2, dropped out."""
        name, width = f"block_{i}.ffn", self._config.d_ff
        normed = self._norm(f"block_{i}.ln2", x)
        weights, biases = ([self._parameters[f"{name}.{letter}_{n}"] for n in (1, 2)] for letter in "Wb")
        hidden = self._product(f"{name}.hidden", normed, weights[0], biases[0])
        active, slope = self.rows(f"{name}.active", width), self.rows(f"{name}.slope", width)
        gelu(hidden, active, slope)
        out = self._product(f"{name}.out", active, weights[1], biases[1])
        self._drop(out, 2 + 2 * i)
        return out

    def loss(self, targets: Int[np.ndarray, "B T"], loss_mask: Bool[np.ndarray, "B T"], weight: Any) -> None:
        """nll, float64 [B * T], and dlogits: `weight` times the gradient of its sum."""
        vocabulary = self._config.vocab_size
        nll = self.rows("nll", 1, np.float64)[:, 0]
        wanted, counted = targets[self._which].reshape(-1), loss_mask[self._which].reshape(-1)
        logits, dlogits = self.rows("logits", vocabulary), self.rows("dlogits", vocabulary)
        cross_entropy(logits, wanted, counted, weight, nll, dlogits)

    # ---- backward

    def backward(self) -> None:
        """From dlogits to dembed_out, leaving the gradient of every product and norm on the way."""
        dlogits = self.rows("dlogits", self._config.vocab_size)
        dnormed = self._product("ln_final.dout", dlogits, self._parameters["E"])
        dx = self._norm_backward("ln_final", dnormed)
        for i in reversed(range(self._config.n_layers)):
            self._ffn_branch_backward(i, dx)
            self._attention_branch_backward(i, dx)
        dembedded = self.rows("dembed_out")
        self._drop_backward(dx, 0, dembedded)

    def _ffn_branch_backward(self, i: int, dx: Array) -> None:
        """Adds the gradient through the branch to dx."""
        name, width = f"block_{i}.ffn", self._config.d_ff
        dout = self.rows(f"{name}.dout")
        self._drop_backward(dx, 2 + 2 * i, dout)
        dhidden = self._product(f"{name}.dhidden", dout, self._model.transposed[f"{name}.W_2"])
        elementwise.multiply(dhidden, self.rows(f"{name}.slope", width), dhidden)
        dnormed = self._product(f"block_{i}.ln2.dout", dhidden, self._model.transposed[f"{name}.W_1"])
        elementwise.add(dx, self._norm_backward(f"block_{i}.ln2", dnormed), dx)

    def _attention_branch_backward(self, i: int, dx: Array) -> None:
        """Adds the gradient through the branch to dx."""
        name, transposed = f"block_{i}.attn", self._model.transposed
        dout = self.rows(f"{name}.dout")
        self._drop_backward(dx, 1 + 2 * i, dout)
        dmixed = self._product(f"{name}.dmixed", dout, transposed[f"{name}.W_o"])
        q, k, v, dq, dk, dv = (self.rows(f"{name}.{part}") for part in ("q", "k", "v", "dq", "dk", "dv"))
        attention_backward(dmixed, q, k, v, self._attention_weights(i), self._model.score_scale, dq, dk, dv)
        for turned in (dq, dk):
            self._model.rotary.turn_back(turned, self._length)
        dnormed = self.rows(f"block_{i}.ln1.dout")
        for part, gradient in zip("qkv", (dq, dk, dv), strict=True):
            gemm(gradient, transposed[f"{name}.W_{part}"], dnormed, part != "q")
        elementwise.add(dx, self._norm_backward(f"block_{i}.ln1", dnormed), dx)

    # ---- the pieces that both branches are made of

    def _attention_weights(self, i: int) -> Float[np.ndarray, "B H P P"]:
        side = padded(self._length)
        shape = (self._kept.batch, self._config.n_heads, side, side)
        return self._kept.array(f"block_{i}.attn.weights", *shape)[self._which]

    def _norm(self, name: str, x: Array, out: str = "") -> Array:
        y, normalised = self.rows(out or f"{name}.out"), self.rows(f"{name}.normalised")
        deviation = self.rows(f"{name}.inverse_deviation", 1)[:, 0]
        gamma, beta = self._parameters[f"{name}.gamma"], self._parameters[f"{name}.beta"]
        layer_norm(x, gamma, beta, self._model.norm_eps, y, normalised, deviation)
        return y

    def _norm_backward(self, name: str, dy: Array) -> Array:
        dx = self.rows(f"{name}.din")
        deviation = self.rows(f"{name}.inverse_deviation", 1)[:, 0]
        layer_norm_backward(
            dy, self.rows(f"{name}.normalised"), deviation, self._parameters[f"{name}.gamma"], dx
        )
        return dx

    def _product(self, name: str, x: Array, matrix: Array, bias: Array | None = None) -> Array:
        """x @ matrix (+ bias), kept under `name`."""
        out = self.rows(name, matrix.shape[1])
        if bias is not None:
            elementwise.fill_rows(bias, out)
        gemm(x, matrix, out, bias is not None)
        return out

    def _drop(self, x: Array, site: int) -> None:
        if self._dropout is None:
            return
        keep = self.rows(f"keep_{site}", dtype=np.bool_)
        self._dropout.keep(site, self._length, self._config.context, keep)
        apply_keep(x, keep, self._keep_scale, x)

    def _drop_backward(self, dx: Array, site: int, out: Array) -> None:
        """out = the gradient before the dropout of this site."""
        if self._dropout is None:
            out[:] = dx
        else:
            apply_keep(dx, self.rows(f"keep_{site}", dtype=np.bool_), self._keep_scale, out)
