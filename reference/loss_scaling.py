"""Dynamic loss scaling: an update from the gradients of `scale` times the loss, and how the scale moves.

    found   = any entry of any gradient is not finite
    g       = gradient / scale, once, before the global norm is taken and clipped
    update  = AdamW at the schedule's rate, if not found; else nothing: parameters, moments, their t stay
    count   = 0 if found, else count + 1
    scale   = scale * backoff_factor                    if found
              scale * growth_factor, and count = 0      if count has reached growth_interval, and float32 holds it

In half precision small gradients become 0 and large ones infinite; a scale that is as large as it can be, found by
trying, keeps most of them in range. Legal variants: a skipped update takes the schedule a tick further all the same;
the scale grows at a count of growth_interval alone, or at any from there on, which differs for a state whose count is
beyond it already.

Source: Micikevicius et al., "Mixed precision training", ICLR 2018, section 3.2; torch.amp.GradScaler, whose table for
an interval of 3 and an overflow in the fourth of eight updates is in tests/test_reference_loss_scaling.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from reference.clipping import clip_by_global_norm
from reference.optimizer import adamw_step
from reference.schedule import learning_rate

Gradients = Sequence[Float[np.ndarray, "..."]]
HYPER = ("beta1", "beta2", "eps", "weight_decay")
SHAPE = ("peak", "floor", "warmup", "total")


class Scaler:
    """Parameters, their moments and the scale; the settings name init_scale, growth_factor, backoff_factor and
    growth_interval, max_norm, those of AdamW (every parameter decays) and those of the schedule.

    The keywords are the conventions of optimizer.py, clipping.py and schedule.py, and the variants named above.
    """

    def __init__(
        self,
        params: Gradients,
        settings: Mapping[str, Any],
        *,
        decay: str = "before",
        eps_place: str = "after correction",
        schedule: str = "honestloop",
        clip: str = "exact",
        norm: str = "double",
        skipped: str = "no tick",
        growth: str = "==",
    ) -> None:
        self.settings, self.skipped, self.growth = dict(settings), skipped, growth
        self.adamw: dict[str, Any] = {"decay": decay, "eps_place": eps_place}
        self.clipping: dict[str, str] = {"clip": clip, "norm": norm}
        self.schedule = schedule
        self.params: list[Any] = [np.array(x) for x in params]
        self.m: list[Any] = [np.zeros_like(x) for x in self.params]
        self.v: list[Any] = [np.zeros_like(x) for x in self.params]
        self.t, self.tick, self.count = 0, 0, 0
        self.factor = float(settings["init_scale"])

    def scale(self) -> float:
        """What the next loss is multiplied by."""
        return self.factor

    def step(self, gradients: Gradients) -> dict[str, Any]:
        """An update from the gradients of scale() times the loss, of the shapes and types of the parameters.

        The record: whether it was skipped, the norm of the gradients of the loss before clipping, and the rate.
        """
        found = self.found_inf(gradients)
        unscaled = self.unscale(gradients)
        clipped, norm = self.clip(unscaled)
        lr = self.rate(found)
        if not found:
            self.update(clipped, lr)
        self.adjust(found)
        return {"skipped": bool(found), "grad_norm": norm, "lr": lr}

    def found_inf(self, gradients: Gradients) -> bool:
        """Whether any entry of any gradient is infinite or NaN."""
        return not all(bool(np.all(np.isfinite(g))) for g in gradients)

    def unscale(self, gradients: Gradients) -> list[Any]:
        """The gradients of the loss itself."""
        return [g * (1.0 / self.factor) for g in gradients]

    def clip(self, gradients: list[Any]) -> tuple[list[Any], Any]:
        """(gradients of a global norm of at most max_norm, norm before clipping)."""
        with np.errstate(invalid="ignore"):
            return clip_by_global_norm(gradients, self.settings["max_norm"], **self.clipping)

    def rate(self, found: bool) -> float:
        """The schedule's rate; a tick, unless the update is skipped."""
        shape = {name: self.settings[name] for name in SHAPE}
        lr = learning_rate(self.tick, **shape, schedule=self.schedule)
        self.tick += int(not found or self.skipped == "tick")
        return float(lr)

    def update(self, gradients: list[Any], lr: float) -> None:
        """AdamW of every parameter."""
        self.t += 1
        hyper = {name: self.settings[name] for name in HYPER}
        for i, g in enumerate(gradients):
            p, m, v = self.params[i], self.m[i], self.v[i]
            self.params[i], self.m[i], self.v[i] = adamw_step(
                p, g, m, v, t=self.t, lr=lr, **hyper, **self.adamw
            )

    def adjust(self, found: bool) -> None:
        """The scale of the next update."""
        if found:
            self.factor, self.count = single(self.factor * self.settings["backoff_factor"]), 0
            return
        self.count += 1
        interval = self.settings["growth_interval"]
        if self.count == interval or (self.growth == ">=" and self.count > interval):
            grown = single(self.factor * self.settings["growth_factor"])
            self.factor, self.count = grown if np.isfinite(grown) else self.factor, 0

    def parameters(self) -> list[Any]:
        """Copies, of the shapes and types in which they came."""
        return [x.copy() for x in self.params]

    def state(self) -> dict[str, Any]:
        """scale and growth_tracker, the count of updates since the scale last moved; and all else, copied."""
        arrays = {"parameters": self.params, "m": self.m, "v": self.v}
        kept = {name: [x.copy() for x in of] for name, of in arrays.items()}
        return {"scale": self.factor, "growth_tracker": self.count, "t": self.t, "tick": self.tick} | kept

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state. KeyError for a missing entry."""
        self.factor, self.count = float(state["scale"]), int(state["growth_tracker"])
        self.t, self.tick = state["t"], state["tick"]
        self.params, self.m, self.v = ([x.copy() for x in state[name]] for name in ("parameters", "m", "v"))


def single(x: float) -> float:
    """A number as float32 holds it: beyond its range, infinity."""
    with np.errstate(over="ignore"):
        return float(np.float32(x))


def first_update(
    params: Gradients, gradients: Gradients, settings: Mapping[str, Any], **conventions: Any
) -> tuple[list[Any], Any]:
    """(parameters, norm) after the first update, at the rate `peak`, from the gradients of the loss itself.

    The arrays may be traced ones. The keywords are those of clipping.py and optimizer.py.
    """
    how = {name: conventions.pop(name) for name in ("clip", "norm")}
    clipped, norm = clip_by_global_norm(list(gradients), settings["max_norm"], **how)
    hyper = {name: settings[name] for name in HYPER} | {"lr": settings["peak"]} | conventions
    pairs = zip(params, clipped, strict=True)
    return [adamw_step(p, g, p * 0.0, p * 0.0, t=1, **hyper)[0] for p, g in pairs], norm
