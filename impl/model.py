"""MiniGPT: a pre-LayerNorm decoder with rotary positions and a tied head; forward and backward side by side."""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from impl.config import ModelConfig
from impl.data import Batch
from impl.kernels import elementwise
from impl.kernels.activation import gelu
from impl.kernels.attention import attention, attention_backward
from impl.kernels.dropout import apply_keep, dropout_keep
from impl.kernels.gemm import gemm
from impl.kernels.loss import cross_entropy
from impl.kernels.norm import layer_norm, layer_norm_backward
from impl.kernels.rotary import angles, rotate
from impl.parameters import named_views, parameter_count, parameter_shapes

Array = np.ndarray[Any, np.dtype[Any]]


def rotary_table(length: int, head_size: int, base: float) -> tuple[Array, Array]:
    """cos and sin, float64 [length, K/2], of position * base^(-2i/K); the powers by correctly rounded decimals."""
    with localcontext() as context:
        context.prec = 40
        rates = [float(Decimal(base) ** (Decimal(-2 * i) / head_size)) for i in range(head_size // 2)]
    cosine, sine = np.empty((2, length, head_size // 2))
    angles(np.array(rates), cosine, sine)
    return cosine, sine


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


class Workspace:
    """Named arrays that are allocated once and reused by every step; a shape may shrink and grow again."""

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._buffers: dict[str, Array] = {}

    def array(self, name: str, *shape: int, dtype: Any = None) -> Array:
        """An uninitialised array of this shape; the one given before under this name is overwritten."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, dtype or self._dtype)
        return buffer[:size].reshape(shape)


class MiniGPT:
    """Parameters, gradients and activations; the first state machine.

    Logits are [B, T, V]. Inside, positions are rows: [B * T, D]. Gradients are added to until `zero_gradients`.
    """

    def __init__(self, config: ModelConfig, dtype: str, parameters: dict[str, Array]) -> None:
        self.config = config
        self.dtype = dtype
        shapes = parameter_shapes(config)
        self.flat_parameters, self.flat_gradients = np.zeros((2, parameter_count(config)), dtype)
        self.parameters = named_views(self.flat_parameters, shapes)
        self.gradients = named_views(self.flat_gradients, shapes)
        self.restore(parameters)
        head_size = config.d_model // config.n_heads
        cosine, sine = rotary_table(config.context, head_size, config.rope_base)
        self._cosine, self._sine = cosine.astype(dtype), sine.astype(dtype)
        self._scale = np.dtype(dtype).type(1.0 / np.sqrt(head_size))
        self._work = Workspace(dtype)

    def state(self) -> dict[str, Array]:
        """A copy of every parameter by name."""
        return {name: value.copy() for name, value in self.parameters.items()}

    def restore(self, state: dict[str, Array]) -> None:
        """Overwrite every parameter; names and shapes must be this model's."""
        for name, value in self.parameters.items():
            value[...] = state[name]

    def zero_gradients(self) -> None:
        self.flat_gradients[:] = 0.0

    def loss_and_gradients(self, batch: Batch, dropout: Dropout | None, tokens: int | None = None) -> float:
        """Mean loss over the unmasked targets; its gradient is added to `gradients`.

        `tokens` is the number of targets to divide by: the whole batch's, when `batch` is a part of it.
        """
        tokens = batch.tokens if tokens is None else tokens
        logits = self.forward(batch.input, batch.key_mask, dropout)
        dlogits = self._work.array("dlogits", *logits.shape)
        weight = 1.0 / tokens if tokens else 0.0
        vocabulary = logits.shape[-1]
        nll = cross_entropy(
            logits.reshape(-1, vocabulary),
            batch.target.reshape(-1),
            batch.loss_mask.reshape(-1),
            weight,
            dlogits.reshape(-1, vocabulary),
        )
        self._backward(batch.input, dlogits, dropout)
        return float(nll * weight)

    def nll(self, batch: Batch) -> float:
        """Sum of negative log-likelihoods, in nats, over the unmasked targets; no dropout."""
        logits = self.forward(batch.input, batch.key_mask)
        rows = logits.reshape(-1, logits.shape[-1])
        unused = self._work.array("dlogits", *rows.shape)
        return float(cross_entropy(rows, batch.target.reshape(-1), batch.loss_mask.reshape(-1), 0.0, unused))

    def forward(
        self,
        tokens: Int[np.ndarray, "B T"],
        key_mask: Bool[np.ndarray, "B T"],
        dropout: Dropout | None = None,
    ) -> Float[np.ndarray, "B T V"]:
        """Logits; the array is reused by the next call."""
        return self.forward_layers(tokens, key_mask, dropout)["logits"]

    def forward_layers(
        self,
        tokens: Int[np.ndarray, "B T"],
        key_mask: Bool[np.ndarray, "B T"],
        dropout: Dropout | None = None,
    ) -> dict[str, Array]:
        """What each layer puts out: embed_out, block_i_out, final_ln_out, logits; reused by the next call."""
        batch, length = tokens.shape
        rows, width = batch * length, self.config.d_model
        x = self._work.array("embed_out", rows, width)
        elementwise.gather_rows(self.parameters["E"], tokens.reshape(-1), x)
        self._drop(x, 0, length, dropout)
        layers = {"embed_out": x}
        for i in range(self.config.n_layers):
            after = self._work.array(f"block_{i}_out", rows, width)
            after[:] = x
            self._attention_branch(i, after, key_mask, dropout)
            self._ffn_branch(i, after, length, dropout)
            layers[f"block_{i}_out"] = x = after
        normed = self._norm("ln_final", x)
        layers["final_ln_out"] = normed
        layers["logits"] = self._product("logits", normed, self._transposed("E"))
        return {name: value.reshape(batch, length, -1) for name, value in layers.items()}

    def _backward(self, tokens: Array, dlogits: Array, dropout: Dropout | None) -> None:
        length = tokens.shape[1]
        dlogits = dlogits.reshape(-1, dlogits.shape[-1])
        normed = self._work.array("ln_final.out", dlogits.shape[0], self.config.d_model)
        gemm(dlogits.T, normed, self.gradients["E"], True)
        dnormed = self._product("dnormed", dlogits, self.parameters["E"])
        dx = self._work.array("dx", *normed.shape)
        self._norm_backward("ln_final", dnormed, dx)
        for i in reversed(range(self.config.n_layers)):
            self._ffn_branch_backward(i, dx, dropout)
            self._attention_branch_backward(i, dx, length, dropout)
        self._drop_backward(dx, 0, dropout)
        elementwise.scatter_add_rows(dx, tokens.reshape(-1), self.gradients["E"])

    # x + Attention(LN(x))

    def _attention_branch(self, i: int, x: Array, key_mask: Array, dropout: Dropout | None) -> None:
        batch, length = key_mask.shape
        heads = self.config.n_heads
        name = f"block_{i}.attn"
        normed = self._norm(f"block_{i}.ln1", x)
        q, k, v = (self._product(f"{name}.{p}", normed, self.parameters[f"{name}.W_{p}"]) for p in "qkv")
        rotate(q, self._cosine, self._sine, length)
        rotate(k, self._cosine, self._sine, length)
        mixed = self._work.array(f"{name}.mixed", *q.shape)
        weights = self._work.array(f"{name}.weights", batch, heads, length, length)
        attention(q, k, v, key_mask, heads, self._scale, mixed, weights)
        out = self._product("branch", mixed, self.parameters[f"{name}.W_o"])
        self._drop(out, 1 + 2 * i, length, dropout)
        elementwise.add(x, out)

    def _attention_branch_backward(self, i: int, dx: Array, length: int, dropout: Dropout | None) -> None:
        name = f"block_{i}.attn"
        work, shape, heads = self._work, dx.shape, self.config.n_heads
        mixed, q, k, v = (work.array(f"{name}.{part}", *shape) for part in ("mixed", "q", "k", "v"))
        weights = work.array(f"{name}.weights", shape[0] // length, heads, length, length)
        dout = work.array("dbranch", *shape)
        dout[:] = dx
        self._drop_backward(dout, 1 + 2 * i, dropout)
        dmixed = self._product_backward(f"{name}.W_o", mixed, dout)
        dq, dk, dv = (work.array(part, *shape) for part in ("dq", "dk", "dv"))
        attention_backward(dmixed, q, k, v, weights, self._scale, dq, dk, dv)
        rotate(dq, self._cosine, -self._sine, length)
        rotate(dk, self._cosine, -self._sine, length)
        normed = work.array(f"block_{i}.ln1.out", *shape)
        dnormed = work.array("dnormed", *shape)
        for part, gradient in zip("qkv", (dq, dk, dv), strict=True):
            gemm(normed.T, gradient, self.gradients[f"{name}.W_{part}"], True)
            gemm(gradient, self._transposed(f"{name}.W_{part}"), dnormed, part != "q")
        dinput = work.array("dinput", *shape)
        self._norm_backward(f"block_{i}.ln1", dnormed, dinput)
        elementwise.add(dx, dinput)

    # x + FFN(LN(x)), FFN(x) = GELU(x W_1 + b_1) W_2 + b_2

    def _ffn_branch(self, i: int, x: Array, length: int, dropout: Dropout | None) -> None:
        name = f"block_{i}.ffn"
        normed = self._norm(f"block_{i}.ln2", x)
        hidden = self._product(
            f"{name}.hidden", normed, self.parameters[f"{name}.W_1"], self.parameters[f"{name}.b_1"]
        )
        active, slope = (self._work.array(f"{name}.{part}", *hidden.shape) for part in ("active", "slope"))
        gelu(hidden, active, slope)
        out = self._product("branch", active, self.parameters[f"{name}.W_2"], self.parameters[f"{name}.b_2"])
        self._drop(out, 2 + 2 * i, length, dropout)
        elementwise.add(x, out)

    def _ffn_branch_backward(self, i: int, dx: Array, dropout: Dropout | None) -> None:
        name = f"block_{i}.ffn"
        work, rows = self._work, dx.shape[0]
        active, slope = (work.array(f"{name}.{part}", rows, self.config.d_ff) for part in ("active", "slope"))
        dout = work.array("dbranch", *dx.shape)
        dout[:] = dx
        self._drop_backward(dout, 2 + 2 * i, dropout)
        elementwise.add_rows(dout, self.gradients[f"{name}.b_2"])
        dactive = self._product_backward(f"{name}.W_2", active, dout)
        dhidden = work.array("dhidden", *dactive.shape)
        elementwise.multiply(dactive, slope, dhidden)
        elementwise.add_rows(dhidden, self.gradients[f"{name}.b_1"])
        normed = work.array(f"block_{i}.ln2.out", *dx.shape)
        dnormed = self._product_backward(f"{name}.W_1", normed, dhidden)
        dinput = work.array("dinput", *dx.shape)
        self._norm_backward(f"block_{i}.ln2", dnormed, dinput)
        elementwise.add(dx, dinput)

    # The pieces that both branches are made of

    def _norm(self, name: str, x: Array) -> Array:
        out, normalised = (self._work.array(f"{name}.{part}", *x.shape) for part in ("out", "normalised"))
        deviation = self._work.array(f"{name}.inverse_deviation", x.shape[0], dtype=np.float64)
        gamma, beta = self.parameters[f"{name}.gamma"], self.parameters[f"{name}.beta"]
        layer_norm(x, gamma, beta, self.config.ln_eps, out, normalised, deviation)
        return out

    def _norm_backward(self, name: str, dy: Array, dx: Array) -> None:
        normalised = self._work.array(f"{name}.normalised", *dy.shape)
        deviation = self._work.array(f"{name}.inverse_deviation", dy.shape[0], dtype=np.float64)
        dgamma, dbeta = self.gradients[f"{name}.gamma"], self.gradients[f"{name}.beta"]
        layer_norm_backward(dy, normalised, deviation, self.parameters[f"{name}.gamma"], dx, dgamma, dbeta)

    def _product(self, name: str, x: Array, matrix: Array, bias: Array | None = None) -> Array:
        """x @ matrix (+ bias), kept under `name`."""
        out = self._work.array(name, x.shape[0], matrix.shape[1])
        if bias is not None:
            elementwise.fill_rows(bias, out)
        gemm(x, matrix, out, bias is not None)
        return out

    def _product_backward(self, name: str, x: Array, dy: Array) -> Array:
        """Adds x^T dy to the gradient of parameter `name`; returns dy @ W^T."""
        gemm(x.T, dy, self.gradients[name], True)
        return self._product(f"{name}.dx", dy, self._transposed(name))

    def _transposed(self, name: str) -> Array:
        """A contiguous copy of a parameter's transpose: the product wants rows of its right side contiguous."""
        parameter = self.parameters[name]
        out = self._work.array("transposed", *reversed(parameter.shape))
        out[:] = parameter.T
        return out

    def _drop(self, x: Array, site: int, length: int, dropout: Dropout | None) -> None:
        if dropout is None or dropout.rate == 0.0:
            return
        keep = self._work.array(f"keep_{site}", *x.shape, dtype=np.bool_)
        dropout.keep(site, length, self.config.context, keep)
        apply_keep(x, keep, self._keep_scale(dropout))

    def _drop_backward(self, dx: Array, site: int, dropout: Dropout | None) -> None:
        if dropout is None or dropout.rate == 0.0:
            return
        apply_keep(dx, self._work.array(f"keep_{site}", *dx.shape, dtype=np.bool_), self._keep_scale(dropout))

    def _keep_scale(self, dropout: Dropout) -> Any:
        return np.dtype(self.dtype).type(1.0 / (1.0 - dropout.rate))
