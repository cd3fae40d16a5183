"""MiniGPT: its parameters, the law of their first values, and its forward pass.

    x = E[tokens];   each block: x = x + Attn(LN(x)),  x = x + FFN(LN(x));   logits = LN(x) E^T

Rotary positions on queries and keys, exact GELU.
Linear maps are x @ W with W of shape (in, out). Head h takes features h K .. (h + 1) K - 1, K = d_model / n_heads.

Sources: pre-LN blocks: Xiong et al., "On layer normalization in the transformer architecture", ICML 2020. Tied head:
Press, Wolf, "Using the output embedding to improve language models", EACL 2017. First values: Radford et al., "Language
models are unsupervised multitask learners", 2019.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from reference.activation import gelu
from reference.attention import attention
from reference.normalisation import layer_norm
from reference.rotary import rope

INITIAL_DEVIATION = 0.02
DEFAULT_CONFIG: Mapping[str, int | float] = {
    "d_model": 64,
    "n_heads": 4,
    "n_layers": 2,
    "d_ff": 256,
    "vocab_size": 64,
    "context": 32,
    "ln_eps": 1e-5,
    "rope_base": 10000.0,
}

Parameters = Mapping[str, np.ndarray]
Config = Mapping[str, int | float]
Dropout = Callable[[np.ndarray, int], np.ndarray]
"""(activations [B, T, D], site) -> activations; see dropout.py for the sites."""


def no_dropout(x: Float[np.ndarray, "B T D"], site: int) -> Float[np.ndarray, "B T D"]:
    """Evaluation: x as it is, at every site."""
    return x


def parameter_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, in order. The default model has 103,680 numbers."""
    d, f = int(config["d_model"]), int(config["d_ff"])
    shapes: dict[str, tuple[int, ...]] = {"E": (int(config["vocab_size"]), d)}
    for layer in range(int(config["n_layers"])):
        block = f"block_{layer}"
        shapes |= {f"{block}.attn.{w}": (d, d) for w in ("W_q", "W_k", "W_v", "W_o")}
        shapes |= {f"{block}.ffn.W_1": (d, f), f"{block}.ffn.b_1": (f,)}
        shapes |= {f"{block}.ffn.W_2": (f, d), f"{block}.ffn.b_2": (d,)}
        shapes |= {f"{block}.{ln}.{p}": (d,) for ln in ("ln1", "ln2") for p in ("gamma", "beta")}
    return shapes | {"ln_final.gamma": (d,), "ln_final.beta": (d,)}


def parameter_count(config: Config) -> int:
    """Number of trained numbers; the tied head counts once."""
    return sum(int(np.prod(shape)) for shape in parameter_shapes(config).values())


def initial_law(name: str) -> str:
    """What a parameter starts from: "normal" (mean 0, deviation 0.02) for matrices, else "zeros" or "ones"."""
    last = name.split(".")[-1]
    if last == "gamma":
        return "ones"
    return "zeros" if last in ("beta", "b_1", "b_2") else "normal"


def split_heads(x: Float[np.ndarray, "B T D"], n_heads: int) -> Float[np.ndarray, "B H T K"]:
    """Features split into heads of K = D / H features; D must be divisible by H, or else ValueError."""
    batch, length, width = x.shape
    return x.reshape((batch, length, n_heads, width // n_heads)).swapaxes(1, 2)


def merge_heads(x: Float[np.ndarray, "B H T K"]) -> Float[np.ndarray, "B T D"]:
    """Heads concatenated along the features: the inverse of `split_heads`."""
    batch, n_heads, length, size = x.shape
    return x.swapaxes(1, 2).reshape((batch, length, n_heads * size))


def attention_branch(
    x: Float[np.ndarray, "B T D"],
    params: Parameters,
    block: str,
    key_mask: Bool[np.ndarray, "B T"],
    config: Config,
) -> Float[np.ndarray, "B T D"]:
    """Attn(LN(x)) of one block, "block_0" to "block_(n_layers - 1)"; KeyError for any other."""
    h = layer_norm(x, params[f"{block}.ln1.gamma"], params[f"{block}.ln1.beta"], config["ln_eps"])
    q, k, v = (
        split_heads(h @ params[f"{block}.attn.{w}"], int(config["n_heads"])) for w in ("W_q", "W_k", "W_v")
    )
    base = config["rope_base"]
    return merge_heads(attention(rope(q, base), rope(k, base), v, key_mask)) @ params[f"{block}.attn.W_o"]


def ffn_branch(
    x: Float[np.ndarray, "B T D"], params: Parameters, block: str, config: Config
) -> Float[np.ndarray, "B T D"]:
    """FFN(LN(x)) of one block: the exact GELU between two linear maps with biases."""
    h = layer_norm(x, params[f"{block}.ln2.gamma"], params[f"{block}.ln2.beta"], config["ln_eps"])
    inner = gelu(h @ params[f"{block}.ffn.W_1"] + params[f"{block}.ffn.b_1"])
    return inner @ params[f"{block}.ffn.W_2"] + params[f"{block}.ffn.b_2"]


def forward_layers(
    params: Parameters,
    tokens: Int[np.ndarray, "B T"],
    key_mask: Bool[np.ndarray, "B T"],
    config: Config,
    dropout: Dropout = no_dropout,
) -> dict[str, Float[np.ndarray, "B T _"]]:
    """Every named layer: embed_out, block_0_out, ..., final_ln_out [B, T, D] and logits [B, T, V]."""
    x = dropout(params["E"][tokens], 0)
    layers = {"embed_out": x}
    for layer in range(int(config["n_layers"])):
        block = f"block_{layer}"
        x = x + dropout(attention_branch(x, params, block, key_mask, config), 1 + 2 * layer)
        x = x + dropout(ffn_branch(x, params, block, config), 2 + 2 * layer)
        layers[f"{block}_out"] = x
    x = layer_norm(x, params["ln_final.gamma"], params["ln_final.beta"], config["ln_eps"])
    return layers | {"final_ln_out": x, "logits": x @ params["E"].swapaxes(0, 1)}


def forward(
    params: Parameters,
    tokens: Int[np.ndarray, "B T"],
    key_mask: Bool[np.ndarray, "B T"],
    config: Config,
    dropout: Dropout = no_dropout,
) -> Float[np.ndarray, "B T V"]:
    """Logits: at each position, the unnormalised log-probabilities of the token that follows."""
    return forward_layers(params, tokens, key_mask, config, dropout)["logits"]
