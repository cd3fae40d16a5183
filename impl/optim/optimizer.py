"""AdamW, the second state machine, and global-norm clipping, over flat buffers."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from impl.config import OptimizerConfig
from impl.kernels import parameter_passes
from impl.kernels.adamw import Scalars, adamw
from impl.kernels.runtime.memory import aligned_zeros
from impl.kernels.runtime.thread_pool import default_pool
from impl.model.parameters import named_views

Array = np.ndarray[Any, np.dtype[Any]]


def decays(name: str) -> bool:
    """Whether weight decay applies: to matrices (E, W_*), never to biases and LayerNorm (GPT-2 practice)."""
    last = name.rsplit(".", 1)[-1]
    return last == "E" or last.startswith("W_")


def clip_factor(norm: float, max_norm: float) -> float:
    """The factor that scales a gradient of 2-norm `norm` down to `max_norm` (Pascanu et al. 2013).

    It is 1 if the norm is at most `max_norm`, or NaN.
    """
    return max_norm / norm if norm > max_norm else 1.0


class Optimizer(Protocol):
    """What updates the parameters: AdamW, or Muon."""

    def update(self, parameters: Array, gradients: Array, lr: float, clip: float = 1.0) -> None:
        """Update the flat `parameters` in place, with `clip` times the `gradients`."""

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, copied."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""


class AdamW:
    """Moments m and v, the number t of updates, and beta^t as running products, as the bits of `pow` depend on libm."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], dtype: str, config: OptimizerConfig) -> None:
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        self._config = config
        self._decayed = np.concatenate([np.full(size, decays(name)) for name, size in sizes.items()])
        self._m, self._v = aligned_zeros(self._decayed.size, dtype), aligned_zeros(self._decayed.size, dtype)
        self._moments = {f"m.{name}": view for name, view in named_views(self._m, shapes).items()}
        self._moments |= {f"v.{name}": view for name, view in named_views(self._v, shapes).items()}
        self.t = 0
        self.beta1_power = self.beta2_power = 1.0

    def update(self, parameters: Array, gradients: Array, lr: float, clip: float = 1.0) -> None:
        """Update the flat `parameters` in place, with `clip` times the `gradients`."""
        scalars = self._next(lr, clip)
        arrays = parameters, gradients, self._m, self._v, self._decayed
        default_pool().run_chunks(parameter_passes.update, parameters.size, *arrays, scalars)

    def update_ranges(
        self,
        parameters: Array,
        gradients: Array,
        ranges: Sequence[tuple[slice, slice]],
        lr: float,
        clip: float,
    ) -> None:
        """The same for parts of the flat `parameters`: pairs of where a part is there, and in the moments."""
        scalars = self._next(lr, clip)
        for there, here in ranges:
            moments = self._m[here], self._v[here], self._decayed[here]
            adamw(parameters[there], gradients[there], *moments, scalars)

    def _next(self, lr: float, clip: float) -> Scalars:
        """The constants of the coming update; advances by one."""
        self.t += 1
        self.beta1_power *= self._config.beta1
        self.beta2_power *= self._config.beta2
        return adamw_scalars(self._config, lr, self.beta1_power, self.beta2_power, clip)

    def state(self) -> dict[str, Any]:
        """t, the running products as hex (exact), and a copy of both moments by parameter name."""
        scalars = {"t": self.t, "beta1_power": self.beta1_power.hex(), "beta2_power": self.beta2_power.hex()}
        return scalars | {name: value.copy() for name, value in self._moments.items()}

    def restore(self, state: dict[str, Any]) -> None:
        self.t = int(state["t"])
        self.beta1_power = float.fromhex(state["beta1_power"])
        self.beta2_power = float.fromhex(state["beta2_power"])
        for name, value in self._moments.items():
            value[...] = state[name]


def adamw_scalars(
    config: OptimizerConfig, lr: float, beta1_power: float, beta2_power: float, clip: float = 1.0
) -> Scalars:
    """The constants of the update for the kernel."""
    beta1, beta2 = config.beta1, config.beta2
    return Scalars(
        1.0 - lr * config.weight_decay,
        float(lr),
        beta1,
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        1.0 / (1.0 - beta1_power),
        1.0 / (1.0 - beta2_power),
        config.eps,
        clip,
    )
