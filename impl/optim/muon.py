"""Muon for the matrices of the blocks, AdamW for the rest: one optimizer, the second state machine of such a run."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from impl.config import MuonConfig, OptimizerConfig
from impl.kernels.muon import POLAR_EXPRESS, MuonScalars, muon_of_matrices
from impl.kernels.runtime.memory import aligned_zeros
from impl.kernels.runtime.thread_pool import default_pool
from impl.kernels.runtime.ticket_counters import FIRST_FREE_COUNTER
from impl.model.parameters import named_views
from impl.optim.optimizer import AdamW
from impl.optim.schedule import momentum_at, weight_decay_at

Array = np.ndarray[Any, np.dtype[Any]]
Shapes = Mapping[str, tuple[int, ...]]
WORTH_A_THREAD = 2**15
"""Entries of the matrices from which on other threads are woken."""


def is_of_muon(name: str) -> bool:
    """Whether Muon updates a parameter: the matrices W_ of the blocks, and neither the embedding nor any vector."""
    return name.rsplit(".", 1)[-1].startswith("W_")


def shape_scale(outputs: int, inputs: int) -> float:
    """By what the rate of a matrix is multiplied."""
    return math.sqrt(max(1.0, outputs / inputs))


def coefficients(dtype: Any) -> Array:
    """Those of the Polar Express, [5, 3]."""
    return np.array(POLAR_EXPRESS, dtype)


class Muon:
    """Momentum and second moments of the matrices [inputs, outputs]; AdamW with its state for all other parameters."""

    def __init__(
        self, shapes: Shapes, dtype: str, adamw: OptimizerConfig, muon: MuonConfig, steps: int
    ) -> None:
        matrices = {name: shape for name, shape in shapes.items() if is_of_muon(name)}
        rest = {name: shape for name, shape in shapes.items() if not is_of_muon(name)}
        seconds = {name: (max(shape),) for name, shape in matrices.items()}
        self._config, self._relative, self._steps = muon, muon.peak_lr / adamw.peak_lr, steps
        self._adamw = AdamW(rest, dtype, adamw)
        self._rest = ranges(shapes, rest)
        self._momentum = aligned_zeros(sum(map(math.prod, matrices.values())), dtype)
        self._second = aligned_zeros(sum(map(math.prod, seconds.values())), dtype)
        self._table = table(shapes, matrices, seconds)
        self._scales = np.array([shape_scale(columns, rows) for *_, rows, columns, _ in self._table.tolist()])
        self._coefficients = coefficients(dtype)
        self._state = {f"momentum.{name}": x for name, x in named_views(self._momentum, matrices).items()}
        self._state |= {f"second.{name}": x for name, x in named_views(self._second, seconds).items()}

    def update(self, parameters: Array, gradients: Array, lr: float, clip: float = 1.0) -> None:
        """Update the flat `parameters` in place, with `clip` times the `gradients`, at this rate of AdamW's."""
        step, how = self._adamw.t, self._config
        mu = momentum_at(
            step,
            start=how.momentum_start,
            peak=how.momentum,
            final=how.momentum_end,
            ramp=how.momentum_ramp,
            cooldown=how.momentum_cooldown,
            total=self._steps,
        )
        decay = weight_decay_at(
            step, initial=how.weight_decay, total=self._steps, schedule=how.decay_schedule
        )
        rate = lr * self._relative
        scalars = MuonScalars(rate, mu, 1.0 - mu, how.beta2, 1.0 - how.beta2, decay, clip)
        self._adamw.update_ranges(parameters, gradients, self._rest, lr, clip)
        counters = np.zeros(FIRST_FREE_COUNTER, np.int64)
        arrays = parameters, gradients, self._momentum, self._second, self._table, self._scales
        pool = default_pool()
        threads = pool.size if self._momentum.size >= WORTH_A_THREAD else 1
        pool.run(
            lambda _: muon_of_matrices(counters, *arrays, self._coefficients, scalars), threads, counters
        )

    def state(self) -> dict[str, Any]:
        """AdamW's, and a copy of momentum and second moment of each matrix."""
        return self._adamw.state() | {name: x.copy() for name, x in self._state.items()}

    def restore(self, state: dict[str, Any]) -> None:
        self._adamw.restore(state)
        for name, x in self._state.items():
            x[...] = state[name]


def offsets(shapes: Shapes) -> dict[str, int]:
    """Where each parameter begins in a flat buffer."""
    ends = np.cumsum([0, *map(math.prod, shapes.values())]).tolist()
    return dict(zip(shapes, ends, strict=False))


def table(shapes: Shapes, matrices: Shapes, seconds: Shapes) -> Array:
    """Rows of `muon_of_matrices`, int64 [k, 6], the largest matrix first: that one would be waited for."""
    places = offsets(shapes), offsets(matrices), offsets(seconds)
    largest = sorted(matrices, key=lambda name: -math.prod(matrices[name]))
    # The law has one number for each output where there are as many as inputs or more: outputs are the columns here.
    rows = [
        (*(place[name] for place in places), *matrices[name], matrices[name][1] >= matrices[name][0])
        for name in largest
    ]
    return np.array(rows, np.int64).reshape(-1, 6)


def ranges(shapes: Shapes, rest: Shapes) -> list[tuple[slice, slice]]:
    """(in the whole buffer, in one of the rest alone), a pair for each run of neighbours."""
    at, in_rest = offsets(shapes), offsets(rest)
    found: list[tuple[slice, slice]] = []
    for name, shape in rest.items():
        here, there, size = at[name], in_rest[name], math.prod(shape)
        if found and found[-1][0].stop == here:
            here, there = found[-1][0].start, found[-1][1].start
            size += found.pop()[0].stop - here
        found.append((slice(here, here + size), slice(there, there + size)))
    return found
