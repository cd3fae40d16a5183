"""MiniGPT's parameters: names, shapes, order in the flat buffer, and initial values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.config import ModelConfig
from impl.kernels.runtime.named_views import views_in_order
from impl.rng import standard_normal, stream_key

if TYPE_CHECKING:  # only type checkers need jaxtyping, and importing it takes time
    from jaxtyping import Float

Array = np.ndarray[Any, np.dtype[Any]]

INITIAL_DEVIATION = 0.02


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter, in storage order; the tied head is E and is stored once."""
    d, f = config.d_model, config.d_ff
    shapes: dict[str, tuple[int, ...]] = {"E": (config.vocab_size, d)}
    for block in (f"block_{i}" for i in range(config.n_layers)):
        shapes |= {f"{block}.attn.{name}": (d, d) for name in ("W_q", "W_k", "W_v", "W_o")}
        shapes |= {f"{block}.ffn.W_1": (d, f), f"{block}.ffn.b_1": (f,)}
        shapes |= {f"{block}.ffn.W_2": (f, d), f"{block}.ffn.b_2": (d,)}
        shapes |= {f"{block}.{norm}.{name}": (d,) for norm in ("ln1", "ln2") for name in ("gamma", "beta")}
    return shapes | {"ln_final.gamma": (d,), "ln_final.beta": (d,)}


def parameter_count(config: ModelConfig) -> int:
    """The number of parameters: 103,680 with the default configuration."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def named_views(flat: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Cut a flat buffer into named arrays that share its memory."""
    return dict(zip(shapes, views_in_order(flat, shapes.values()), strict=True))


def initial_parameters(seed: int, config: ModelConfig) -> dict[str, Float[np.ndarray, " ..."]]:
    """Float64: matrices from N(0, 0.02^2) of the `init` stream, biases and beta 0, gamma 1."""
    key = stream_key(seed, "init")
    parameters = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if len(shape) == 2:
            normal = standard_normal(key, math.prod(shape), number)
            parameters[name] = INITIAL_DEVIATION * normal.reshape(shape)
        else:
            parameters[name] = np.full(shape, 1.0 if name.endswith("gamma") else 0.0)
    return parameters
