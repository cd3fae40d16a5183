"""The clipped gradient of an update, recovered from the first moment before and after it; and what it implies.

AdamW keeps all of the gradient that it was handed: from m1 = b1 m + (1 - b1) g follows g = (m1 - b1 m) / w, w = 1 - b1.
No model is needed, nor the batch. The rest of the update is then a function of known numbers.

Rounding. With unit roundoff u, gamma_n = n u / (1 - n u) and constants that carry a relative error c each (c = 2^-53
if they are Python floats, u if they are numbers of the arrays' dtype), a correct subject computes m1 in one of the
forms

    b1 m + w g        constant, product: gamma_2 (b1 |m| + w |g|);  sum: u |m1|
    m + w (g - m)     difference, constant, product: gamma_3 w (|g| + |m|);  sum: u |m1|

    E(|g|) = gamma_2 b1 |m| + gamma_3 w (|g| + |m|) + u |m1| + c |g| + 4 tiny

bounds the error of either; c |g| is b1 rounded and then w = 1 - b1 rounded, (b1 + w) c. Four operands or results may be
flushed to 0 below the smallest normal number `tiny`. The recovered g is off by e <= E(|g|) / w, and |g| <= |recovered
g| + e; E is linear in |g| with slope k = gamma_3 w + c, so that e <= E(|recovered g|) / (w - k).

The second moment belongs to the same gradient, v1 = b2 v + (1 - b2) g^2, in one of the forms of m1 with g^2 for g:

    |error| <= gamma_2 b2 v + gamma_4 w2 (g^2 + v) + u v1 + c g^2 + 5 tiny,    and w2 (2 |g| e + e^2) from the recovery

The judge computes in the next wider type (numpy.longdouble for float64): its own roundings add the share of its unit
roundoff in the subject's to each bound.

Sources: Kingma, Ba, "Adam", ICLR 2015, algorithm 1; Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
2002, sections 2.2 and 3.1.
"""

import numpy as np
from jaxtyping import Float

from reference.arithmetic import DOUBLE, gamma, unit_roundoff
from reference.bounds import Bounded

Array = Float[np.ndarray, "..."]


def wide(x: Array) -> Array:
    """The same numbers, of the same shape, in a type whose roundings add little to a bound for those of x."""
    return x.astype(np.longdouble if x.dtype == np.float64 else np.float64)


def own_share(unit: float) -> float:
    """1 and what the judge's own roundings add to a bound for a subject with this unit roundoff."""
    kind = np.longdouble if unit == DOUBLE else np.float64
    return 1.0 + float(np.finfo(kind).eps) / 2.0 / unit + 2.0**-20


def unit_of_constants(unit: float, scalars: str) -> float:
    """Relative error of beta, 1 - beta and the like: "double": Python floats; "dtype": numbers like the arrays'."""
    return unit if scalars == "dtype" else DOUBLE


def gradient(m: Array, m1: Array, *, beta1: float, scalars: str = "double") -> Bounded:
    """The gradient behind the step of the first moment from m to m1, of one shape; TypeError for 16-bit moments."""
    unit, tiny = unit_roundoff(m1.dtype), float(np.finfo(m1.dtype).smallest_normal)
    c, w, share = unit_of_constants(unit, scalars), 1.0 - beta1, own_share(unit)
    before, after = wide(m), wide(m1)
    g = (after - beta1 * before) / w
    size = np.abs(g)
    error = gamma(2, unit) * beta1 * np.abs(before) + gamma(3, unit) * w * (size + np.abs(before))
    error += unit * np.abs(after) + c * size + 4.0 * tiny
    return Bounded(g, error * (share / (w - gamma(3, unit) * w - c)))


def second_moment(v: Array, v1: Array, g: Bounded, *, beta2: float, scalars: str = "double") -> Bounded:
    """What the second moment must be after the gradient g, and how far v1 may be from it; all of one shape."""
    unit, tiny = unit_roundoff(v1.dtype), float(np.finfo(v1.dtype).smallest_normal)
    c, w = unit_of_constants(unit, scalars), 1.0 - beta2
    before, size = wide(v), np.abs(g.value)
    largest = (size + g.bound) ** 2
    error = w * g.bound * (2.0 * size + g.bound) + gamma(2, unit) * beta2 * np.abs(before)
    error += gamma(4, unit) * w * (largest + np.abs(before)) + unit * np.abs(wide(v1)) + c * largest
    return Bounded(beta2 * before + w * size * size, (error + 5.0 * tiny) * own_share(unit))


def reached(g: Bounded) -> bool:
    """Whether any entry of the gradient is certainly not 0."""
    return bool((np.abs(g.value) > g.bound).any())
