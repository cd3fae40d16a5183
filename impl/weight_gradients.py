"""The gradients of the parameters: sums over all rows of a batch, each number added up by one thread, rows ascending.

A share is some rows of every matrix and some entries of every vector. The next micro-batch goes on where this one
ended.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from impl.activations import Activations
from impl.kernels.elementwise import add_rows, scatter_add_rows
from impl.kernels.gemm import ROWS, gemm
from impl.kernels.norm import layer_norm_parameters_backward
from impl.team import share_of

if TYPE_CHECKING:
    from impl.model import MiniGPT

Array = np.ndarray[Any, np.dtype[Any]]


def products(layers: int) -> dict[str, tuple[str, str]]:
    """Matrix -> what it was multiplied with, and the gradient of the result."""
    found: dict[str, tuple[str, str]] = {}
    for block in (f"block_{i}" for i in range(layers)):
        attention, ffn = f"{block}.attn", f"{block}.ffn"
        found |= {f"{attention}.W_{part}": (f"{block}.ln1.out", f"{attention}.d{part}") for part in "qkv"}
        found |= {f"{attention}.W_o": (f"{attention}.mixed", f"{attention}.dout")}
        found |= {f"{ffn}.W_1": (f"{block}.ln2.out", f"{ffn}.dhidden")}
        found |= {f"{ffn}.W_2": (f"{ffn}.active", f"{ffn}.dout")}
    return found


def biases(layers: int) -> dict[str, str]:
    """Bias -> the gradient of what it was added to."""
    each = {"ffn.b_1": "ffn.dhidden", "ffn.b_2": "ffn.dout"}
    return {f"block_{i}.{b}": f"block_{i}.{d}" for i in range(layers) for b, d in each.items()}


def norms(layers: int) -> list[str]:
    """Every LayerNorm."""
    return [f"block_{i}.{norm}" for i in range(layers) for norm in ("ln1", "ln2")] + ["ln_final"]


def add_share(
    model: "MiniGPT", kept: Activations, tokens: Int[np.ndarray, "B T"], share: int, shares: int
) -> None:
    """Add this share of the batch's gradients to the model's."""
    config, gradients = model.config, model.gradients
    width = config.d_model
    for name, (left, right) in products(config.n_layers).items():
        _add_product(kept.rows(left, 0), kept.rows(right, 0), gradients[name], share, shares)
    logits, normed = kept.rows("dlogits", config.vocab_size), kept.rows("final_ln_out", width)
    _add_product(logits, normed, model.head_gradient, share, shares)
    for name, source in biases(config.n_layers).items():
        some = share_of(gradients[name].size, share, shares)
        add_rows(kept.rows(source, 0)[:, some], gradients[name][some])
    some = share_of(width, share, shares)
    for name in norms(config.n_layers):
        dy, normalised = kept.rows(f"{name}.dout", width), kept.rows(f"{name}.normalised", width)
        dgamma, dbeta = gradients[f"{name}.gamma"], gradients[f"{name}.beta"]
        layer_norm_parameters_backward(dy[:, some], normalised[:, some], dgamma[some], dbeta[some])
    scatter_add_rows(kept.rows("dembed_out", width)[:, some], tokens.reshape(-1), gradients["E"][:, some])


def _add_product(x: Array, dy: Array, gradient: Array, share: int, shares: int) -> None:
    """gradient += x^T dy, for some rows of it."""
    some = share_of(gradient.shape[0], share, shares, ROWS)
    gemm(x[:, some].T, dy, gradient[some], True)
