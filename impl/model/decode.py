"""Greedy decoding with the keys and values of earlier positions kept: one row through the model for each token.

The kernels are those of the forward pass, in which no row of a product depends on another: the logits are those of a
pass over the whole text, bit for bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from impl.kernels import activation, attention, elementwise, gemm, layer_norm, objective, rotary
from impl.model.minigpt import MiniGPT

Array = np.ndarray[Any, np.dtype[Any]]


class Decoder:
    """MiniGPT without dropout, a token at a time; it reads the parameters anew at each of them."""

    def __init__(self, model: MiniGPT) -> None:
        self._model, self._length = model, 0
        config = model.config
        self._number = np.dtype(model.dtype).type
        shape = config.n_layers, 2, config.context, config.d_model
        self._cache = np.zeros(shape, model.dtype)
        """The rotated keys and the values of each layer, [context, D] each."""

    def logits(self, token: int) -> Array:
        """Logits [V] after one more token. ValueError beyond the context, or for a token that is none."""
        config, parameters = self._model.config, self._model.parameters
        if self._length == config.context or not 0 <= token < config.vocab_size:
            raise ValueError(f"token {token} at position {self._length}; the context is {config.context}")
        x = parameters["E"][token][None].copy()
        for layer in range(config.n_layers):
            x = self._sum(x, self._attention(x, layer))
            x = self._sum(x, self._feed_forward(x, layer))
        self._length += 1
        logits = self._product(self._norm(x, "ln_final"), np.ascontiguousarray(parameters["E"].T))
        if config.softcap > 0.0:
            objective.soft_cap(logits, config.softcap, 1.0, logits)
        return logits[0]

    def _attention(self, x: Array, layer: int) -> Array:
        """The attention branch of a row [1, D]; its key and value are kept."""
        model, block, n = self._model, f"block_{layer}", self._length + 1
        h = self._norm(x, f"{block}.ln1")
        q, k, v = (self._product(h, self._matrix(f"{block}.attn.{w}")) for w in ("W_q", "W_k", "W_v"))
        tables, position = model.rotary, np.array([self._length])
        for y in (q, k):
            rotary.rotate(y, tables.cosine, tables.signed_sine, tables.half_head, position)
        keys, values = self._cache[layer]
        keys[n - 1], values[n - 1] = k[0], v[0]
        queries = np.zeros((n, q.shape[1]), q.dtype)  # the earlier ones are not asked again
        queries[-1] = q[0]
        size, blocks = attention.QUERY_BLOCK, attention.query_blocks(n)
        weights = np.empty((1, blocks, blocks * size, model.config.n_heads * size), q.dtype)
        out, everything = np.empty_like(queries), np.ones(n, np.bool_)
        scale = self._number(1.0 / np.sqrt(model.config.d_model // model.config.n_heads))
        attention.attention(
            queries,
            keys[:n],
            values[:n],
            np.array([0, n]),
            everything,
            scale,
            model.config.window,
            out,
            weights,
        )
        return self._product(out[-1:].copy(), self._matrix(f"{block}.attn.W_o"))

    def _feed_forward(self, x: Array, layer: int) -> Array:
        """The feed-forward branch of a row [1, D]."""
        name = f"block_{layer}.ffn"
        hidden = self._product(
            self._norm(x, f"block_{layer}.ln2"), self._matrix(f"{name}.W_1"), f"{name}.b_1"
        )
        out = np.empty_like(hidden)
        activation.gelu(hidden, out, np.empty_like(hidden))
        return self._product(out, self._matrix(f"{name}.W_2"), f"{name}.b_2")

    def _matrix(self, name: str) -> Array:
        return self._model.parameters[name]

    def _norm(self, x: Array, name: str) -> Array:
        gamma, beta = (self._model.parameters[f"{name}.{part}"] for part in ("gamma", "beta"))
        out, eps = np.empty_like(x), self._number(self._model.config.ln_eps)
        layer_norm.layer_norm(x, gamma, beta, eps, out, np.empty_like(x), np.empty(1, x.dtype))
        return out

    def _product(self, x: Array, matrix: Array, bias: str | None = None) -> Array:
        """x [1, K] times a matrix [K, N], to which a bias [N] was added first if there is one."""
        out = np.empty((1, matrix.shape[1]), x.dtype)
        if bias:
            out[0] = self._model.parameters[bias]
        gemm.gemm(x, matrix, out, bias is not None)
        return out

    def _sum(self, x: Array, branch: Array) -> Array:
        out = np.empty_like(x)
        elementwise.add(x, branch, out)
        return out


def generate(
    model: MiniGPT, prompt: Sequence[int], count: int, until: int | None = None
) -> tuple[Array, Array]:
    """(ids [n], logits [n, V] that each was chosen by): the most likely token, the first of several, n times.

    n is `count`, or less if the token `until` comes before. ValueError if that does not fit into the context.
    """
    decoder = Decoder(model)
    for token in prompt[:-1]:
        decoder.logits(token)
    ids = [prompt[-1]]
    rows: list[Array] = []
    while len(rows) < count and (not rows or ids[-1] != until):
        rows.append(decoder.logits(ids[-1]))
        ids.append(int(np.argmax(rows[-1])))
    return np.array(ids[1:], np.int64), np.array(rows)
