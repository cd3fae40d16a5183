"""Exponential moving averages of the weights (Polyak & Juditsky 1992) and of the training loss."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class WeightAverage:
    """average = decay average + (1 - decay) w; the first update copies. Each operation is rounded in the dtype of w.

    `like` has arrays of the names and shapes to come; without it they are those of the first update.
    """

    def __init__(self, decay: float, like: Mapping[str, Array] | None = None) -> None:
        self._decay = decay
        self._average = {name: np.zeros_like(w) for name, w in (like or {}).items()}
        self._updates = 0

    def update(self, params: Mapping[str, Array]) -> None:
        """Take the weights after an update; they are left as they are."""
        for name, w in params.items():
            if self._updates == 0:
                self._average[name] = w.copy()
            else:
                average = self._average[name]
                average *= w.dtype.type(self._decay)
                average += w.dtype.type(1.0 - self._decay) * w
        self._updates += 1

    def parameters(self) -> dict[str, Array]:
        """Copies of the averages by name."""
        return {name: average.copy() for name, average in self._average.items()}

    def state(self) -> dict[str, Any]:
        return {"updates": self._updates, **self.parameters()}

    def restore(self, state: dict[str, Any]) -> None:
        self._updates = int(state["updates"])
        self._average = {name: x.copy() for name, x in state.items() if isinstance(x, np.ndarray)}


class LossAverage:
    """The same of numbers, from 0 and with the bias corrected by 1 - decay^t (Kingma & Ba 2015, section 3)."""

    def __init__(self, decay: float) -> None:
        self._decay, self._average, self._updates = decay, 0.0, 0

    def update(self, value: float) -> float:
        """Take the loss of an update; the average of all so far."""
        self._average = self._decay * self._average + (1.0 - self._decay) * value
        self._updates += 1
        return self._average / (1.0 - self._decay**self._updates)

    def state(self) -> dict[str, Any]:
        return {"average": self._average, "updates": self._updates}

    def restore(self, state: dict[str, Any]) -> None:
        self._average, self._updates = float(state["average"]), int(state["updates"])
