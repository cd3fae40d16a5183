"""Groups of parameters: each parameter in one group, by its role, with settings of its own; and their state on resume.

A parameter has a role: "embedding", "head", "matrix" (of a block), "bias" or "gain". Its settings are

    defaults,  then a decay of 0 for a bias or a gain (unless all are declared to decay),  then what its role is given

The last is taken as it is, also where it is 0. Muon updates the matrices of the blocks if it is asked for, AdamW all
else: neither the embedding nor the head, though they have two axes, nor any vector.

Source: nanoGPT, model.py, configure_optimizers (decay by kind); karpathy/autoresearch, train.py, setup_optimizer (the
count of the groups is that of the parameters); Jordan et al., "Muon", 2024 (what it is for).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from reference.optimizer import moments

ROLES = ("embedding", "head", "matrix", "bias", "gain")
SETTINGS = ("lr", "beta1", "beta2", "eps", "weight_decay")


def settings_of(
    role: str, defaults: Mapping[str, float], overrides: Mapping[str, Mapping[str, float]], decayed: str
) -> dict[str, float]:
    """The five settings of a parameter of this role."""
    exempt = role in ("bias", "gain") and decayed == "matrices"
    return {**defaults, **({"weight_decay": 0.0} if exempt else {}), **overrides.get(role, {})}


def parameter_groups(
    parameters: Mapping[str, tuple[str, tuple[int, ...]]],
    defaults: Mapping[str, float],
    overrides: Mapping[str, Mapping[str, float]],
    muon: bool,
    *,
    decayed: str = "matrices",
) -> list[dict[str, Any]]:
    """Groups of the parameters, name to (role, shape): names, optimizer ("muon" or "adamw") and the five settings."""
    groups = []
    for role in ROLES:
        if names := [name for name, (its, _) in parameters.items() if its == role]:
            kind = "muon" if muon and role == "matrix" else "adamw"
            own = settings_of(role, defaults, overrides, decayed)
            groups.append({"names": names, "optimizer": kind, **own})
    return groups


def resumed_moments(
    gradients: Sequence[Float[np.ndarray, "..."] | None],
    shapes: Sequence[tuple[int, ...]],
    beta1: float,
    beta2: float,
) -> list[tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]] | None]:
    """(m, v) of each parameter after an update, a save and a load into a new optimizer; None without a gradient."""
    return [
        None if g is None else moments(g, np.zeros(shape), np.zeros(shape), beta1, beta2)
        for g, shape in zip(gradients, shapes, strict=True)
    ]
