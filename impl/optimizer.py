"""AdamW and global-norm clipping over flat buffers; AdamW is the second state machine."""

import math
from typing import Any

import numpy as np

from impl.config import OptimizerConfig
from impl.kernels.elementwise import scale
from impl.kernels.memory import zeros
from impl.kernels.optimizer import adamw
from impl.kernels.reduce import sum_squares
from impl.parameters import named_views

Array = np.ndarray[Any, np.dtype[Any]]


def decays(name: str) -> bool:
    """Whether weight decay applies: to matrices (E, W_*), never to biases and LayerNorm (GPT-2 practice)."""
    last = name.rsplit(".", 1)[-1]
    return last == "E" or last.startswith("W_")


def clip_by_global_norm(gradients: Array, max_norm: float) -> float:
    """Scale a flat gradient in place so that its 2-norm is at most `max_norm` (Pascanu et al. 2013).

    Returns the norm before clipping, in float64. A gradient within the limit is left untouched, to the bit.
    """
    norm = math.sqrt(sum_squares(gradients))
    if norm > max_norm:
        scale(gradients, gradients.dtype.type(max_norm / norm))
    return norm


class AdamW:
    """Moments m, v, the update count t, and beta^t as running products (exact to rounding, unlike a libm pow)."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], dtype: str, config: OptimizerConfig) -> None:
        sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        self._config = config
        self._decayed = np.concatenate([np.full(size, decays(name)) for name, size in sizes.items()])
        self._m, self._v = zeros(self._decayed.size, dtype), zeros(self._decayed.size, dtype)
        self._moments = {f"m.{name}": view for name, view in named_views(self._m, shapes).items()}
        self._moments |= {f"v.{name}": view for name, view in named_views(self._v, shapes).items()}
        self.t = 0
        self.beta1_power = self.beta2_power = 1.0

    def update(self, parameters: Array, gradients: Array, lr: float) -> None:
        """One update of the flat `parameters`, in place."""
        self.t += 1
        self.beta1_power *= self._config.beta1
        self.beta2_power *= self._config.beta2
        scalars = adamw_scalars(self._config, lr, self.beta1_power, self.beta2_power)
        number = parameters.dtype.type
        adamw(parameters, gradients, self._m, self._v, self._decayed, *(number(x) for x in scalars))

    def state(self) -> dict[str, Any]:
        """The update count, the running products as exact hex, and a copy of both moments by parameter name."""
        scalars = {"t": self.t, "beta1_power": self.beta1_power.hex(), "beta2_power": self.beta2_power.hex()}
        return scalars | {name: value.copy() for name, value in self._moments.items()}

    def restore(self, state: dict[str, Any]) -> None:
        self.t = int(state["t"])
        self.beta1_power = float.fromhex(state["beta1_power"])
        self.beta2_power = float.fromhex(state["beta2_power"])
        for name, value in self._moments.items():
            value[...] = state[name]


def power(beta: float, t: int) -> float:
    """beta^t as the running product that `AdamW` keeps."""
    product = 1.0
    for _ in range(t):
        product *= beta
    return product


def adamw_scalars(
    config: OptimizerConfig, lr: float, beta1_power: float, beta2_power: float
) -> tuple[float, ...]:
    """The kernel's scalar arguments, in its order, in float64."""
    beta1, beta2 = config.beta1, config.beta2
    return (
        1.0 - lr * config.weight_decay,
        lr,
        beta1,
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        1.0 / (1.0 - beta1_power),
        1.0 / (1.0 - beta2_power),
        config.eps,
    )
