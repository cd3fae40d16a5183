"""Operations of a token, and the share of the machine's peak that a training reaches.

6 for each entry of a matrix that multiplies (the tied head once), and 12 H K for each key of each layer: a
multiplication and an addition, in the forward pass and in the two products of the backward pass (Kaplan et al. 2020).
"""

from collections.abc import Mapping
from typing import Any

from impl.config import ModelConfig
from impl.model.parameters import parameter_shapes

SIZES = frozenset(ModelConfig.model_fields)


def flops_per_token(config: Mapping[str, Any]) -> int:
    """For one token of a full context; `config` has fields of ModelConfig, and may have `windows`, one a layer."""
    model = ModelConfig(**{name: value for name, value in config.items() if name in SIZES})
    windows = config.get("windows") or [model.context] * model.n_layers
    matrices = sum(s[0] * s[1] for s in parameter_shapes(model).values() if len(s) == 2)
    return 6 * matrices + 12 * model.d_model * sum(min(w, model.context) for w in windows)


def mfu(flops: int, tokens: int, seconds: float, peak: float | None, devices: int) -> float | None:
    """Percent of the peak, in operations a second of each device; None if the peak is not known."""
    return None if peak is None else 100.0 * flops * tokens / (seconds * peak * devices)
