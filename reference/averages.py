"""Exponential moving averages: of the weights of a model, and of its training loss.

    e_t = d e_(t-1) + (1 - d) x_t

Two ways to begin are right. "copy": e_1 = x_1 (PyTorch's AveragedModel, which copies at its first update). "debiased":
e_0 = 0, and what is read is e_t / (1 - d^t), the mean of x_1 .. x_t with weights d^(t-i) (optax.ema, Adam). The average
of the loss is always debiased, so that a constant loss is its own average from the first update on.

The same average by interpolation, e + (1 - d) (x - e), rounds differently: a subject may do either, so that both are
here, and the bound of a subject is the sum of theirs.

Source: Polyak and Juditsky, 1992; Kingma and Ba, "Adam", ICLR 2015, section 3 (the correction of the bias).
"""

from collections.abc import Mapping, Sequence
from typing import Any


def averaged(values: Sequence[Any], decay: Any, start: str = "copy") -> Any:
    """The average of x_1 .. x_t, oldest first; one at least."""
    if start == "debiased":
        average = (1 - decay) * values[0]
        for x in values[1:]:
            average = decay * average + (1 - decay) * x
        return average / (1 - decay ** len(values))
    average = values[0]
    for x in values[1:]:
        average = decay * average + (1 - decay) * x
    return average


def interpolated(values: Sequence[Any], decay: Any, start: str = "copy") -> Any:
    """The same average by interpolation."""
    average = (1 - decay) * values[0] if start == "debiased" else values[0]
    for x in values[1:]:
        average = average + (1 - decay) * (x - average)
    return average / (1 - decay ** len(values)) if start == "debiased" else average


class WeightAverage:
    """The average of arrays by name; `update` takes the weights after an update."""

    def __init__(self, decay: float, start: str = "copy") -> None:
        self._decay, self._start = decay, start
        self._average: dict[str, Any] = {}
        self._updates = 0

    def update(self, params: Mapping[str, Any]) -> None:
        """Take the weights, which are left as they are."""
        for name, w in params.items():
            before = self._average.get(name, 0.0 * w)
            first = self._start == "copy" and self._updates == 0
            keep, take = w.dtype.type(self._decay), w.dtype.type(1.0 - self._decay)
            self._average[name] = w.copy() if first else keep * before + take * w
        self._updates += 1

    def parameters(self) -> dict[str, Any]:
        """The average by name: copies."""
        if self._start == "copy":
            return {name: e.copy() for name, e in self._average.items()}
        rest = 1.0 - self._decay**self._updates
        return {name: e / e.dtype.type(rest) for name, e in self._average.items()}

    def state(self) -> dict[str, Any]:
        """The number of updates, and copies of the arrays."""
        return {
            "updates": self._updates,
            "average": {name: e.copy() for name, e in self._average.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._updates = state["updates"]
        self._average = {name: e.copy() for name, e in state["average"].items()}


class LossAverage:
    """The debiased average of numbers."""

    def __init__(self, decay: float) -> None:
        self._decay, self._average, self._updates = decay, 0.0, 0

    def update(self, value: float) -> float:
        """Take the loss of an update; the average of all so far."""
        self._average = self._decay * self._average + (1.0 - self._decay) * value
        self._updates += 1
        return self._average / (1.0 - self._decay**self._updates)

    def state(self) -> dict[str, Any]:
        """The sum and the number of updates, which JSON can hold."""
        return {"average": self._average, "updates": self._updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._average, self._updates = state["average"], state["updates"]
