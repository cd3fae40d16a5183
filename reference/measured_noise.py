"""How far apart rounding may bring two runs of a loop of which nothing is known but the loop itself.

Without an oracle of the model there is no running error analysis. What one rounding in every weight does is measured
instead: each weight is multiplied by 1 + 2u or 1 - 2u, drawn, u being the unit roundoff of the loop's arithmetic, and
the run is repeated. A computation in other order rounds each intermediate result once more, which is that disturbance
again, a few times over (backward error analysis: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
2002, section 1.5).

    |loss - loss'|      <= 64 u (1 + |loss|) + 16 max over `NUDGES` nudges of |loss(nudged) - loss|
    |tensor - tensor'|  <= u |tensor| + 16 max over the nudges of |tensor(nudged) - tensor|,    Euclidean norms

64 u covers the mean of the logarithms themselves. Norms of whole tensors, because AdamW turns an entry whose gradient
is rounding alone into a step of full size: its sign is chance, the length of the step is not. With eight nudges, the
largest is below a sixteenth of a correct loop's own error with a probability below 1e-10 even for a tensor of one
number (each of eight normal variables within 1/16 of another: 0.05^8).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from reference.arithmetic import unit_roundoff
from reference.bounds import Bounded

Tensors = Mapping[str, Float[np.ndarray, "..."]]
NUDGES = 8
ROUNDINGS, SPREADS = 64.0, 16.0


@dataclass(frozen=True)
class Outcome:
    """What is compared of a run: some losses, and tensors by name."""

    losses: Sequence[float]
    tensors: Tensors


def unit_of(weights: Tensors) -> float:
    """Unit roundoff of weights of any shape; of float32 if there are several. TypeError for 16 bits."""
    return max(unit_roundoff(x.dtype) for x in weights.values())


def nudged(weights: Tensors, seed: int) -> dict[str, Float[np.ndarray, "..."]]:
    """Every weight times 1 + 2u or 1 - 2u, drawn, in the weights' own shapes and dtypes."""
    chance = np.random.default_rng([20261128, seed])

    def moved(x: np.ndarray) -> np.ndarray:
        kind = x.dtype.type
        signs = chance.choice((-1.0, 1.0), x.shape)
        return np.asarray(x * (kind(1) + (2.0 * unit_roundoff(x.dtype) * signs).astype(kind)), x.dtype)

    return {name: moved(x) for name, x in weights.items()}


@dataclass(frozen=True)
class Noise:
    """A run, and how far from its losses and tensors another correct one may be."""

    losses: Bounded
    norms: Mapping[str, float]
    tensors: Tensors

    def apart(self, other: Tensors) -> dict[str, float]:
        """Name -> the distance of the other's tensor, of the same shape, from this one's; infinite for a NaN."""
        found = {}
        for name, x in self.tensors.items():
            length = float(
                np.linalg.norm((x.astype(np.float64) - other[name].astype(np.float64)).reshape(-1))
            )
            found[name] = length if length == length else np.inf
        return found


def measured(run: Callable[[Tensors], Outcome], weights: Tensors) -> Noise:
    """The outcome of a run from these weights, of any shapes, with the bounds above."""
    unit, at = unit_of(weights), run(weights)
    others = [run(nudged(weights, seed)) for seed in range(NUDGES)]
    loss = np.array(at.losses, np.float64)
    spread = np.max([np.abs(np.array(o.losses, np.float64) - loss) for o in others], axis=0, initial=0.0)
    bound = ROUNDINGS * unit * (1.0 + np.abs(loss)) + SPREADS * spread
    still = Noise(Bounded(loss, bound), {}, at.tensors)
    sizes = {name: float(np.linalg.norm(x.astype(np.float64).reshape(-1))) for name, x in at.tensors.items()}
    apart = [still.apart(other.tensors) for other in others]
    norms = {n: unit * sizes[n] + SPREADS * max(found[n] for found in apart) for n in at.tensors}
    return Noise(still.losses, norms, at.tensors)


def outcome(records: Sequence[Mapping[str, Any]], tensors: Tensors) -> Outcome:
    """The logged losses and the tensors, of any shape, after a run."""
    return Outcome([float(record["loss"]) for record in records], tensors)
