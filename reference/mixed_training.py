"""The training loop with parameters of 16 bits: the loop of training.py, with the roundings of mixed_precision.py.

    forward and backward     on the parameters, in their type, settings["dtype"]
    loss, softmax            in single precision; the gradient of the logits is rounded to the type
    gradient of a window     in the type; clipped by a norm that is summed in single precision or wider
    AdamW                    of the float32 master copy, of which the parameter is a rounded copy, or of the parameter

A checkpoint holds the master copy: the parameter follows from it, it does not follow from the parameter. `parameters`
are those that the model computes with, numbers of 16 bits. Gradients are not scaled. Settings that name no dtype are
those of the plain loop.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from reference.arithmetic import SINGLE, unit_roundoff
from reference.bounds import traced
from reference.mixed_precision import (
    mixed_adamw_step,
    mixed_clip_by_global_norm,
    rounded,
    stands_alone,
    widened,
)
from reference.running_error import RunningErrorArray
from reference.training import Trainer, copied
from reference.training_bounds import TracedTrainer


class MixedTrainer(Trainer):
    """The loop with parameters E, W and b in settings["dtype"], "float16" or "bfloat16", which they hold exactly."""

    def __init__(
        self,
        params: Mapping[str, Float[np.ndarray, "..."]],
        settings: Mapping[str, Any],
        *,
        master: str = "float32",
        moments: str = "float32",
        **conventions: str,
    ) -> None:
        super().__init__(params, settings, **conventions)
        self.form, self.kept_moments = settings.get("dtype", ""), moments
        self.alone = stands_alone(self.form, master, moments)
        self.master: dict[str, Any] = {} if master == "none" or not self.form else dict(self.params)

    def token_losses(self, logits: Any, targets: Any) -> Any:
        """In single precision."""
        return super().token_losses(widened(logits) if self.form else logits, targets)

    def logit_gradients(self, logits: Any, targets: Any) -> Any:
        """Computed in single precision, and rounded to the type of the logits."""
        if not self.form:
            return super().logit_gradients(logits, targets)
        return rounded(super().logit_gradients(widened(logits), targets), self.form)

    def token_mean(self, sums: Any) -> tuple[Any, dict[str, Any]]:
        """The gradients are of the type of the parameters."""
        loss, gradients = super().token_mean(sums)
        return loss, {name: rounded(g, self.form) if self.form else g for name, g in gradients.items()}

    def clip(self, gradients: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """(gradients of a global norm of at most max_norm, norm before clipping)."""
        if not self.form:
            return super().clip(gradients)
        limit, forms = self.settings["max_norm"], [self.form] * len(gradients)
        clipped, norm = mixed_clip_by_global_norm(list(gradients.values()), forms, limit, **self.clipping)
        return dict(zip(gradients, clipped, strict=True)), norm

    def step(self, name: str, gradient: Any, lr: Any) -> None:
        """AdamW of the master copy of one parameter, or of the parameter if there is none."""
        if not self.form:
            super().step(name, gradient, lr)
            return
        self.t[name] += 1
        tensors = {"p": self.params[name], "g": gradient, "m": self.m[name], "v": self.v[name]}
        tensors |= {"master": self.master[name]} if self.master else {}
        hyper = {key: self.settings[key] for key in ("beta1", "beta2", "eps")}
        how = hyper | {"t": self.t[name], "lr": lr, "weight_decay": self.decay(name)} | self.adamw
        prepared = tensors if self.alone else {key: widened(x) for key, x in tensors.items()}
        (new,) = mixed_adamw_step([prepared], [self.form], kept=self.kept_moments, **how)
        self.params[name], self.m[name], self.v[name] = new["p"], new["m"], new["v"]
        if self.master:
            self.master[name] = new["master"]

    def state(self) -> dict[str, Any]:
        """The master copies as well."""
        return super().state() | {f"master.{name}": copied(x) for name, x in self.master.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a state. KeyError for a missing entry."""
        super().restore(state)
        self.master = {name: copied(state[f"master.{name}"]) for name in self.master}


class TracedMixedTrainer(TracedTrainer, MixedTrainer):
    """The loop of a subject that computes in settings["dtype"]; what it returns are traced arrays."""

    def __init__(
        self,
        params: Mapping[str, Float[np.ndarray, "..."]],
        settings: Mapping[str, Any],
        *,
        scalars: str = "double",
        **conventions: str,
    ) -> None:
        super().__init__(params, settings, dtype=settings["dtype"], **conventions)
        if scalars == "dtype":  # of the arrays that AdamW updates
            self.unit = unit_roundoff(self.form) if self.alone else SINGLE
            self.settings = traced(dict(settings), RunningErrorArray, self.unit, scalars)
