"""Weights in bfloat16, rounded at random after each update (Gupta et al. 2015): there is no master copy.

The noise of a weight is a function of seed, update and place: the state is the number of the update.
"""

from typing import Any

import numpy as np

from impl.kernels.half_precision import round_at_random
from impl.rng import stream_key, uniform_bits

Array = np.ndarray[Any, np.dtype[Any]]


class StochasticRounding:
    """Rounds flat parameters [n]; one update after the other."""

    def __init__(self, seed: int) -> None:
        self._key = stream_key(seed, "rounding")
        self.step = 0

    def round(self, parameters: Array) -> None:
        """Round in place."""
        words = uniform_bits(self._key, -(-parameters.size // 4), 0, self.step & 0xFFFFFFFF, self.step >> 32)
        round_at_random(parameters, words.reshape(-1))
        self.step += 1

    def state(self) -> dict[str, Any]:
        return {"step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        self.step = int(state["step"])
