"""Muon as plain functions, NumPy in and NumPy out: part of impl/adapter.py."""

from typing import Any

import numpy as np

from impl.array_layout import any_layout
from impl.config import MuonConfig
from impl.kernels import muon as kernels
from impl.optim import schedule
from impl.optim.muon import coefficients, shape_scale

Array = np.ndarray[Any, np.dtype[Any]]


@any_layout
def orthogonalize(g: Array) -> Array:
    """Each matrix of g [..., r, c] with its singular values moved near 1, by the Polar Express (arXiv 2505.16932)."""
    out = np.array(g, order="C")
    for place in np.ndindex(out.shape[:-2]):
        kernels.orthogonalize(out[place], coefficients(out.dtype))
    return out


def orthogonalize_heads(g: Array, heads: int, axis: int) -> Array:
    """The matrix of each head on its own; `heads` of them lie in g [r, c] along `axis`, -2 or -1."""
    parts = [orthogonalize(part) for part in np.split(g, heads, axis=axis)]
    return np.ascontiguousarray(np.concatenate(parts, axis=axis))


@any_layout
def muon_step(
    p: Array,
    g: Array,
    momentum: Array,
    second: Array,
    *,
    t: int,
    lr: float,
    mu: float,
    beta2: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    """(p, momentum, second) after an update of Muon with NorMuon and cautious decay (impl/kernels/muon.py).

    p, g and momentum [..., r, c], of r outputs; second [..., r, 1] if r >= c, else [..., 1, c].
    """
    new_p, new_momentum, new_second = (np.array(x, order="C") for x in (p, momentum, second))
    rows, columns = p.shape[-2:]
    scalars = kernels.MuonScalars(lr, mu, 1.0 - mu, beta2, 1.0 - beta2, weight_decay, 1.0)
    how = rows < columns, shape_scale(rows, columns), coefficients(p.dtype), scalars
    for place in np.ndindex(p.shape[:-2]):
        gradient, moments = np.ascontiguousarray(g[place]), new_second[place].reshape(-1)
        kernels.muon(new_p[place], gradient, new_momentum[place], moments, *how)
    return new_p, new_momentum, new_second


def weight_decay_at(step: int, *, initial: float, total: int) -> float:
    """Muon's decay in update `step`, from 0, of `total`: a line from `initial` to 0."""
    return schedule.weight_decay_at(step, initial=initial, total=total, schedule=MuonConfig().decay_schedule)
