"""Activation checkpointing: the gradients of MiniGPT with and without what its blocks computed being kept.

Of each block only the input is kept; the backward pass computes the block again, with the same parameters and the same
dropout masks, before it goes through it. Nothing else may differ: the gradients are those without, bit for bit, and
every block is computed twice instead of once.

Source: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", 2016, section 3.
"""

import functools
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reference.dropout import dropout
from reference.gradients import (
    Gradients,
    attention_branch_backward,
    ffn_branch_backward,
    linear_backward,
)
from reference.loss import cross_entropy
from reference.model import Config, Parameters, attention_branch, ffn_branch
from reference.normalisation import layer_norm, layer_norm_backward


class Checkpointed:
    """MiniGPT on a batch, whose blocks are recomputed in the backward pass or not.

    p, seed and step are those of dropout.py. A mistake is a subclass that overrides one of the small methods.
    """

    def __init__(
        self,
        params: Parameters,
        key_mask: Bool[np.ndarray, "B T"],
        config: Config,
        recompute: bool,
        p: float,
        seed: int,
        step: int,
    ) -> None:
        self.params, self.key_mask, self.config, self.recompute = params, key_mask, config, recompute
        self.p, self.seed, self.step = p, seed, step
        self.layers = int(config["n_layers"])
        self.inputs: list[Any] = []
        self.kept: dict[int, Any] = {}
        self.passes = [0] * self.layers

    def drop(self, x: Any, site: int, again: bool = False) -> Any:
        """Dropout at a site; `again`: in a recomputation, and in the backward pass after it."""
        if not self.p:
            return x
        return dropout(x, self.p, self.seed, self.step, site, int(self.config["context"]))

    def wraps(self, layer: int) -> bool:
        """Whether this block is recomputed."""
        return self.recompute

    def which(self, layer: int) -> int:
        """The block that is computed in the place of this one in the backward pass."""
        return layer

    def block(self, x: Any, layer: int, again: bool = False) -> tuple[Any, Any]:
        """(residual stream after the attention, after the block) of an input x [B, T, D]."""
        self.passes[layer] += 1
        name, key_mask = f"block_{layer}", self.key_mask
        attended = attention_branch(x, self.params, name, key_mask, self.config)
        middle = x + self.drop(attended, 1 + 2 * layer, again)
        return middle, middle + self.drop(
            ffn_branch(middle, self.params, name, self.config), 2 + 2 * layer, again
        )

    def forward(self, tokens: Int[np.ndarray, "B T"]) -> Any:
        """The output of the last block [B, T, D]."""
        x = self.drop(self.params["E"][tokens], 0)
        for layer in range(self.layers):
            self.inputs.append(x)
            middle, x = self.block(x, layer)
            if not self.wraps(layer):
                self.kept[layer] = middle
        return x

    def block_backward(self, dx: Any, layer: int) -> tuple[Any, Gradients]:
        """(gradient of the block's input, gradients of its parameters by name) of that of its output, dx."""
        x, again, key_mask = self.inputs[layer], self.wraps(layer), self.key_mask
        layer = self.which(layer) if again else layer
        middle = self.block(x, layer, again)[0] if again else self.kept[layer]
        name = f"block_{layer}"
        d, part = ffn_branch_backward(
            middle, self.drop(dx, 2 + 2 * layer, again), self.params, name, self.config
        )
        dx = dx + d
        d, more = attention_branch_backward(
            x, self.drop(dx, 1 + 2 * layer, again), self.params, name, key_mask, self.config
        )
        return dx + d, part | more

    def gradients(
        self,
        tokens: Int[np.ndarray, "B T"],
        targets: Int[np.ndarray, "B T"],
        loss_mask: Bool[np.ndarray, "B T"],
    ) -> tuple[Float[np.ndarray, ""], Gradients, list[int]]:
        """(loss in nats per predicted token, gradients by name, how often each block was computed)."""
        x, E = self.forward(tokens), self.params["E"]
        gamma, beta = self.params["ln_final.gamma"], self.params["ln_final.beta"]
        final = layer_norm(x, gamma, beta, self.config["ln_eps"])
        loss, dlogits = cross_entropy(final @ E.swapaxes(0, 1), targets, loss_mask)
        found = {name: np.zeros_like(x) for name, x in self.params.items()}
        dfinal, head = linear_backward(final, E.swapaxes(0, 1), dlogits)
        dx, *norm = layer_norm_backward(x, gamma, self.config["ln_eps"], dfinal)
        found["ln_final.gamma"], found["ln_final.beta"] = norm
        for layer in reversed(range(self.layers)):
            dx, part = self.block_backward(dx, layer)
            found |= {name: found[name] + g for name, g in part.items()}
        one_hot = np.eye(int(self.config["vocab_size"]))[tokens].reshape((tokens.size, -1))
        table = one_hot.swapaxes(0, 1) @ self.drop(dx, 0).reshape((tokens.size, -1))
        found["E"] = table + head.swapaxes(0, 1)
        return loss, found, self.passes


def made_of(kind: type[Checkpointed]) -> Any:
    """The function of the protocol, by a class."""

    @functools.wraps(kind)
    def recomputed_gradients(
        params: Parameters,
        input: Int[np.ndarray, "B T"],
        target: Int[np.ndarray, "B T"],
        loss_mask: Bool[np.ndarray, "B T"],
        key_mask: Bool[np.ndarray, "B T"],
        config: Config,
        recompute: bool,
        p: float,
        seed: int,
        step: int,
    ) -> tuple[float, Gradients, list[int]]:
        made = kind(params, key_mask, config, recompute, p, seed, step)
        loss, found, passes = made.gradients(input, target, loss_mask)
        in_type = {name: np.asarray(g, params[name].dtype) for name, g in found.items()}
        return float(loss), in_type, passes

    return recomputed_gradients
