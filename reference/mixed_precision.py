"""Parameters of 16 bits, and parameters of several float types in one call: what is rounded, and where.

A parameter is float16, bfloat16, float32 or float64. What the law rounds to its type, each time to nearest:

    parameter    master = "float32": p = rounded(w) after each update of w, which is kept in float32 and never rounded
                 master = "none": p = rounded(AdamW of p), and what is smaller than half an ulp of p is lost
    moments      moments = "float32": not at all; moments = "parameters": m and v once each, before p is updated
    gradient     once, when it has been clipped; the norm is one of all gradients, summed in single precision or wider
    logits       given; the loss is computed of them in single precision, its gradient is rounded once

With neither a master copy nor moments in float32 a subject may compute in the type itself, and round every operation.
A float32 or float64 tensor is computed and stored in its own type whatever stands beside it.

Numbers of 16 bits travel as float32 arrays, which hold all of them, beside the name of their type: NumPy has no
bfloat16. Stochastic rounding is not covered.

Source: Micikevicius et al., "Mixed precision training", ICLR 2018, sections 3.1 (master copy) and 3.3 (sums in single
precision); Kalamkar et al., "A study of BFLOAT16 for deep learning training", 2019, section 3.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reference.arithmetic import DOUBLE, HALVES, SINGLE, UNDERFLOW, unit_roundoff
from reference.clipping import clip_by_norm, global_norm
from reference.loss import cross_entropy
from reference.optimizer import decayed, direction, moments
from reference.rounding import round_weights
from reference.running_error import RunningErrorArray
from reference.traced_array import TracedArray

TYPES = (*HALVES, "float32", "float64")
Tensors = dict[str, Any]
"""p, g, m and v of one parameter, and master if there is one; all of one shape."""


def carrier(dtype: str) -> type[np.floating[Any]]:
    """The NumPy type in which numbers of this type travel."""
    return np.float64 if dtype == "float64" else np.float32


def rounded(x: Float[np.ndarray, "..."], dtype: str) -> Float[np.ndarray, "..."]:
    """x, of any shape, rounded to nearest in a type. A traced array keeps its values, and its error grows by that."""
    if isinstance(x, RunningErrorArray):
        unit = unit_roundoff(dtype)
        error = x.error + unit * (np.abs(x.value) + x.error) + UNDERFLOW[unit]
        return RunningErrorArray((x.value, error), unit)
    return round_weights(x, dtype) if dtype in HALVES else np.asarray(x, dtype=carrier(dtype))


def widened(x: Float[np.ndarray, "..."], unit: float = SINGLE) -> Float[np.ndarray, "..."]:
    """A traced array, of any shape, in the arithmetic of this unit roundoff from here on; any other as it is."""
    if isinstance(x, TracedArray):
        return type(x)(x.parts, unit)
    return x


def stands_alone(dtype: str, master: str, kept: str) -> bool:
    """Whether the type is of 16 bits and nothing of its parameter is kept in a wider one."""
    return dtype in HALVES and master == "none" and kept == "parameters"


def updated(
    x: Tensors,
    dtype: str,
    *,
    t: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decay: str = "before",
    eps_place: str = "after correction",
    kept: str = "float32",
) -> Tensors:
    """One parameter, of any shape, after update number t, from 1: p, m, v and, if there is one, master, then updated.

    `kept` is the convention `moments`.
    """
    m, v = moments(x["g"], x["m"], x["v"], beta1, beta2)
    if dtype in HALVES and kept == "parameters":
        m, v = rounded(m, dtype), rounded(v, dtype)
    unit = getattr(x["p"], "unit", SINGLE)
    step = direction(widened(m, unit), widened(v, unit), t, beta1, beta2, eps, eps_place)
    new = decayed(x["master"] if "master" in x else x["p"], step, lr, weight_decay, decay)
    return {"p": rounded(new, dtype), "m": m, "v": v} | ({"master": new} if "master" in x else {})


def mixed_adamw_step(tensors: Sequence[Tensors], dtypes: Sequence[str], **settings: Any) -> list[Tensors]:
    """Every parameter, of any shape, after an update; the keywords are those of `updated`."""
    return [updated(x, dtype, **settings) for x, dtype in zip(tensors, dtypes, strict=True)]


def mixed_clip_by_global_norm(
    gradients: Sequence[Float[np.ndarray, "..."]],
    dtypes: Sequence[str],
    max_norm: float,
    *,
    clip: str = "exact",
    norm: str = "double",
) -> tuple[list[Float[np.ndarray, "..."]], Float[np.ndarray, ""]]:
    """(gradients of a global norm of at most max_norm, each rounded to its own type; norm before clipping)."""
    total = global_norm([widened(g, unit_of_norm(dtypes, norm)) for g in gradients], "dtype")
    clipped = clip_by_norm(list(gradients), total, max_norm, clip=clip)
    if all(a is b for a, b in zip(clipped, gradients, strict=True)):
        return clipped, total
    return [rounded(g, dtype) for g, dtype in zip(clipped, dtypes, strict=True)], total


def unit_of_norm(dtypes: Sequence[str], norm: str) -> float:
    """Unit roundoff of the sum of the squares: of single precision at most, or that of the coarsest type ("dtype")."""
    coarsest = max((unit_roundoff(dtype) for dtype in dtypes), default=DOUBLE)
    return coarsest if norm == "dtype" else min(coarsest, SINGLE)


def mixed_cross_entropy(
    logits: Float[np.ndarray, "B T V"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    dtype: str,
) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, "B T V"]]:
    """Loss in nats per predicted token, in single precision, and its gradient, rounded to the type of the logits."""
    loss, gradient = cross_entropy(logits, targets, loss_mask)
    return loss, rounded(gradient, dtype)


def holds_numbers_of(x: Float[np.ndarray, "..."], dtype: str) -> bool:
    """Whether every number of an array, of any shape, is one of the type, in the NumPy type in which it travels."""
    if np.asarray(x).dtype != carrier(dtype):
        return False
    return dtype not in HALVES or np.asarray(round_weights(x, dtype)).tobytes() == np.asarray(x).tobytes()
