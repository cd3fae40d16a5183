"""The `scaler` of the protocol: the loss scale of the loop around AdamW of arrays of several float types."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from impl.array_layout import plain
from impl.config import OptimizerConfig, PrecisionConfig
from impl.kernels.adamw import adamw, running_power
from impl.kernels.reduce import sum_squares
from impl.optim.loss_scale import LossScale
from impl.optim.optimizer import adamw_scalars, clip_factor
from impl.optim.schedule import Schedule

Array = np.ndarray[Any, np.dtype[Any]]
ADAM = ("beta1", "beta2", "eps", "weight_decay")


class Scaler:
    """Updates of arrays of any shape; every one decays."""

    def __init__(self, params: Sequence[Array], settings: Mapping[str, Any]) -> None:
        moves = ("init_scale", "growth_factor", "backoff_factor", "growth_interval")
        self._loss_scale = LossScale(PrecisionConfig(**{name: settings[name] for name in moves}))
        self._adam = OptimizerConfig(**{name: settings[name] for name in ADAM})
        self._schedule = Schedule(**{name: settings[name] for name in ("peak", "floor", "warmup", "total")})
        self._max_norm, self._t = settings["max_norm"], 0
        self._shapes = [x.shape for x in params]
        self._params = [plain(x).reshape(-1).copy() for x in params]
        self._m = [np.zeros_like(x) for x in self._params]
        self._v = [np.zeros_like(x) for x in self._params]

    def scale(self) -> float:
        """The factor of the next loss."""
        return self._loss_scale.scale

    def step(self, gradients: Sequence[Array]) -> dict[str, Any]:
        """An update from the gradients of `scale()` times the loss; none if they are not finite."""
        flat = [plain(g).reshape(-1) for g in gradients]
        inverse = 1.0 / self._loss_scale.scale
        norm = math.sqrt(sum(float(sum_squares(g)) for g in flat)) * inverse
        self._loss_scale.settle(math.isfinite(norm))
        if not math.isfinite(norm):
            return {"skipped": True, "grad_norm": norm, "lr": 0.0}
        lr = self._schedule.next_rate()
        self._t += 1
        first, second = (float(running_power(b, self._t)) for b in (self._adam.beta1, self._adam.beta2))
        scalars = adamw_scalars(self._adam, lr, first, second, clip_factor(norm, self._max_norm))
        for p, g, m, v in zip(self._params, flat, self._m, self._v, strict=True):
            adamw(p, g * g.dtype.type(inverse), m, v, np.ones(p.size, np.bool_), scalars)
        return {"skipped": False, "grad_norm": norm, "lr": lr}

    def parameters(self) -> list[Array]:
        """Copies, of the shapes in which they came."""
        return [x.reshape(shape).copy() for x, shape in zip(self._params, self._shapes, strict=True)]

    def state(self) -> dict[str, Any]:
        """scale, growth_tracker, t, the schedule, and copies of all arrays."""
        arrays = {"parameters": self._params, "m": self._m, "v": self._v}
        copies = {name: [x.copy() for x in of] for name, of in arrays.items()}
        counted = {"t": self._t, "schedule": self._schedule.state()}
        scale = {"scale": self._loss_scale.scale, "growth_tracker": self._loss_scale.count}
        return scale | counted | copies

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self._loss_scale.scale, self._loss_scale.count = float(state["scale"]), int(state["growth_tracker"])
        self._t = state["t"]
        self._schedule.restore(state["schedule"])
        self._params, self._m, self._v = (
            [x.copy() for x in state[name]] for name in ("parameters", "m", "v")
        )
