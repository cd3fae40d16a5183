"""Floating-point operations of a training step, per token, and the share of a device's peak that they are.

A product of a row with a matrix is one multiplication and one addition for each entry; the backward pass has two such
products for the one of the forward pass. So each entry of a matrix costs 6 operations a token. Attention multiplies
each query with the keys it attends to, and their weights with the values: 2 H K w multiplications, 12 H K w operations.

Declared variants (N: all parameters, E the tied table of embeddings and head, counted once as it multiplies once):

    matrices    6 (matrices that multiply, the head included) + sum over layers of 12 H K min(w, T)
    parameters  6 N + 12 L H K T: biases and norms too, no window   (nanoGPT)
    causal      6 N + 6 L D T: half of the keys                      (llm.c)

w is the attention window of a layer, T without one; `window` says whether a window of w sees w keys or, counting the
query's own, w + 1.

    MFU in percent = 100 * operations per token * tokens / (seconds * peak * devices)

Sources: Kaplan et al. 2020, section 2.1; Chowdhery et al., "PaLM", 2022, appendix B.
"""

from collections.abc import Mapping
from typing import Any

from reference.model import parameter_count, parameter_shapes

OPERATIONS = 6
"""A multiplication and an addition, in the forward pass and in the two products of the backward pass."""


def keys_attended(config: Mapping[str, Any], window: str) -> list[int]:
    """How many keys a query of each layer is counted to see, for the settings `windows` (one a layer; none: all)."""
    context, layers = int(config["context"]), int(config["n_layers"])
    windows = config.get("windows") or [context] * layers
    return [min(int(w) + (window == "w + 1"), context) for w in windows]


def flops_per_token(config: Mapping[str, Any], formula: str = "matrices", window: str = "w") -> int:
    """Operations of forward and backward pass for one token of a full context."""
    layers, width, context = (int(config[name]) for name in ("n_layers", "d_model", "context"))
    if formula == "parameters":
        return OPERATIONS * parameter_count(config) + 12 * layers * width * context
    if formula == "causal":
        return OPERATIONS * parameter_count(config) + 6 * layers * width * context
    matrices = sum(shape[0] * shape[1] for shape in parameter_shapes(config).values() if len(shape) == 2)
    return OPERATIONS * matrices + 12 * width * sum(keys_attended(config, window))


def mfu(flops: int, tokens: int, seconds: float, peak: float | None, devices: int) -> float | None:
    """Percent of the peak, in operations a second of each device; None if the peak is not known."""
    if peak is None:
        return None
    return 100.0 * flops * tokens / (seconds * peak * devices)
