"""MiniGPT in jax.numpy, a peer in the comparison of training steps."""

from typing import Any

import jax
import jax.numpy as jnp

from reference.model import DEFAULT_CONFIG

CONFIG = dict(DEFAULT_CONFIG)


def norm(p: dict[str, Any], x: Any, name: str) -> Any:
    """LayerNorm over the last axis, with the gain and shift of this name."""
    centred = x - x.mean(-1, keepdims=True)
    deviation = jnp.sqrt((centred * centred).mean(-1, keepdims=True) + CONFIG["ln_eps"])
    return centred / deviation * p[f"{name}.gamma"] + p[f"{name}.beta"]


def rotated(x: Any) -> Any:
    """Rotary embedding of x [B, H, T, K], pairing features i and i + K/2."""
    half = x.shape[-1] // 2
    rates = CONFIG["rope_base"] ** (-jnp.arange(half, dtype=x.dtype) / half)
    angles = jnp.arange(x.shape[-2], dtype=x.dtype)[:, None] * rates
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cosine - b * sine, b * cosine + a * sine], axis=-1)


def attention(p: dict[str, Any], x: Any, name: str, key_mask: Any) -> Any:
    """Causal self-attention of x [B, T, D] over the keys that are not padding, with its four projections."""
    batch, length, width = x.shape
    heads = int(CONFIG["n_heads"])
    q, k, v = ((x @ p[f"{name}.W_{part}"]).reshape(batch, length, heads, -1).swapaxes(1, 2) for part in "qkv")
    scores = rotated(q) @ rotated(k).swapaxes(2, 3) / (width // heads) ** 0.5
    seen = jnp.tril(jnp.ones((length, length), bool)) & key_mask[:, None, None, :]
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e30), axis=-1)
    return (weights @ v).swapaxes(1, 2).reshape(x.shape) @ p[f"{name}.W_o"]


def loss_of(p: dict[str, Any], tokens: Any, targets: Any, loss_mask: Any, key_mask: Any) -> Any:
    """Cross-entropy in nats per unmasked token."""
    x = p["E"][tokens]
    for i in range(int(CONFIG["n_layers"])):
        block = f"block_{i}"
        x = x + attention(p, norm(p, x, f"{block}.ln1"), f"{block}.attn", key_mask)
        hidden = jax.nn.gelu(
            norm(p, x, f"{block}.ln2") @ p[f"{block}.ffn.W_1"] + p[f"{block}.ffn.b_1"], approximate=False
        )
        x = x + hidden @ p[f"{block}.ffn.W_2"] + p[f"{block}.ffn.b_2"]
    logits = norm(p, x, "ln_final") @ p["E"].T
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    return jnp.where(loss_mask, nll, 0.0).sum() / jnp.maximum(loss_mask.sum(), 1)
