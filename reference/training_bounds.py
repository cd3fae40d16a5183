"""How far a correct loop may be from the oracle's: the loop of training.py, run on arrays with running error bounds.

Every operation of every update is traced (running_error.py), so the bound grows with the updates, as the error may. On
a model as small as this one the worst case stays useful: in single precision, after four updates, some thousandth of
the size of one update (`tests/test_reference_training.py` measures it).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from reference.arithmetic import DOUBLE, unit_roundoff
from reference.bounds import Bounded, allowed, learning_rate, map_arrays, traced
from reference.running_error import RunningErrorArray
from reference.schedule import learning_rate as rate_of
from reference.schedule import progress
from reference.training import Trainer


class TracedTrainer(Trainer):
    """The loop of a subject that computes in `dtype`. What it returns are traced arrays; see `bounded`."""

    checkpoints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        params: Mapping[str, Float[np.ndarray, "..."]],
        settings: Mapping[str, Any],
        *,
        dtype: Any,
        scalars: str = "double",
        **conventions: str,
    ) -> None:
        unit = unit_roundoff(dtype)
        traced_params, traced_settings = traced(
            (dict(params), dict(settings)), RunningErrorArray, unit, scalars
        )
        super().__init__(traced_params, traced_settings, **conventions)
        self.plain = dict(settings)
        self.unit = unit if scalars == "dtype" else DOUBLE
        """Unit roundoff of the arithmetic of the rates."""

    def save(self, path: str) -> None:
        """Traced arrays have no file format: their checkpoints stay in memory, with the class."""
        self.checkpoints[path] = self.state()

    def load(self, path: str) -> None:
        """The state that was saved at `path`. KeyError if none was."""
        self.restore(self.checkpoints[path])

    def token_losses(self, logits: Any, targets: Any) -> Any:
        """As of a plain trainer; a subject may weight each term before they are added."""
        return weighted(super().token_losses(logits, targets))

    def logit_gradients(self, logits: Any, targets: Any) -> Any:
        """As of a plain trainer; a subject may weight each term before they are added."""
        return weighted(super().logit_gradients(logits, targets))

    def rate(self, k: int) -> RunningErrorArray:
        """The rate, with the bound of its formula."""
        horizon = {"warmup": self.plain["warmup"], "total": self.plain["total"], "schedule": self.schedule}
        peak, floor = self.plain["peak"], self.plain["floor"]
        half_turns = progress(k, **horizon) if k >= self.plain["warmup"] else 0.0
        bound = learning_rate(
            peak=peak, floor=floor, half_turns=half_turns if np.isfinite(half_turns) else 1.0, unit=self.unit
        )
        return RunningErrorArray(
            (np.asarray(rate_of(k, peak=peak, floor=floor, **horizon)), np.asarray(bound)), self.unit
        )

    def clip(self, gradients: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Where the norm is so near the limit that correct subjects differ on it, the bound is infinite."""
        clipped, norm = super().clip(gradients)
        limit = self.plain["max_norm"]
        if abs(float(norm) - limit) <= allowed(norm) + 2.0 * limit * self.unit:
            clipped = {
                name: RunningErrorArray((g.value, np.full(g.shape, np.inf)), g.unit)
                for name, g in clipped.items()
            }
        return clipped, norm


def bounded(result: Any) -> Any:
    """Traced arrays as `Bounded` ones, in the same structure."""
    return map_arrays(
        lambda x: Bounded(x.value, allowed(x)) if isinstance(x, RunningErrorArray) else x, result
    )


def weighted(x: Any) -> Any:
    """x, an array of any shape, with the rounding errors of weights of 1.

    A subject may divide each term by the tokens of its micro-batch and multiply it by the micro-batch's share of the
    window's tokens, before the terms are added: two divisions and a product.
    """
    return x / 1.0 / 1.0 * 1.0
