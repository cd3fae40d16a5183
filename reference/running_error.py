"""Running error analysis: arrays that carry a bound on how far a correct computation may be from them.

Run an oracle on `RunningErrorArray` arguments and every result carries an upper bound on

    | what a correct subject computes - what exact arithmetic gives |

The rounding error of each operation (arithmetic.py) is added to the errors of its operands, propagated through it. The
propagation is by inequalities that hold for errors of any size, not only to first order; where none holds (a division
by something that may be 0) the bound is infinite. Bounds of this kind are sharp for one function and useless for a deep
network, where errors mostly cancel: there, see monte_carlo.py.

Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, section 3.3.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from scipy import special

from reference.arithmetic import MAGNITUDE_DEPENDENT, constant_error, exact_in_single, gamma, rounding_error
from reference.traced_array import TracedArray


class RunningErrorArray(TracedArray):
    """fp64 values (`parts[0]`) and, entry by entry, bounds on their absolute error (`parts[1]`), of the same shape."""

    __slots__ = ()
    n_parts = 2

    @property
    def error(self) -> np.ndarray:
        """The bounds, of the shape of the values."""
        return self.parts[1]

    def constant(self, x: Any, unit: float) -> Self:
        """A plain operand, rounded once if single precision does not hold it; or an array, rounded to a larger unit."""
        if isinstance(x, RunningErrorArray) and x.unit == unit:
            return x  # type: ignore[return-value]
        if type(x) is float:
            return type(self)((np.asarray(x), np.asarray(constant_error(x, unit))), unit)
        value = x.value if isinstance(x, RunningErrorArray) else np.asarray(x, dtype=np.float64)
        error = x.error if isinstance(x, RunningErrorArray) else np.zeros_like(value)
        if not isinstance(x, RunningErrorArray) or x.unit < unit:
            error = error + np.where(exact_in_single(value), 0.0, unit * np.abs(value))
        return type(self)((value, error), unit)

    def operation(self, ufunc: Any, operands: list[Self], unit: float) -> Self:
        """The operation on the values; its bound is the propagated errors and its own rounding error."""
        value = ufunc(*[x.parts[0] for x in operands])
        propagated = _PROPAGATED[ufunc](value, *operands)
        magnitudes = [np.abs(x.value) + x.error for x in operands] if ufunc in MAGNITUDE_DEPENDENT else []
        error = propagated + rounding_error(ufunc, unit, magnitudes, np.abs(value) + propagated)
        return type(self)((value, np.fmin(error, np.inf)), unit)  # a NaN says nothing, as infinity does

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Self:
        """The sum; its bound is the sum of the bounds and gamma_(n-1) times the sum of the magnitudes."""
        terms = self.size if axis is None else self.shape[axis]
        value = self.value.sum(axis=axis, keepdims=keepdims)
        propagated = self.error.sum(axis=axis, keepdims=keepdims)
        if terms <= 1:  # nothing is added, nothing is rounded
            return type(self)((value, propagated), self.unit)
        magnitude = np.abs(self.value).sum(axis=axis, keepdims=keepdims) + propagated
        return type(self)((value, propagated + gamma(terms - 1, self.unit) * magnitude), self.unit)


def _divide(value: np.ndarray, a: RunningErrorArray, b: RunningErrorArray) -> np.ndarray:
    # a'/b' - a/b = ((a' - a) - (a/b)(b' - b)) / b'
    smallest = np.abs(b.value) - b.error
    return (a.error + np.abs(value) * b.error) / np.where(smallest > 0, smallest, np.nan)


def _sqrt(value: np.ndarray, a: RunningErrorArray) -> np.ndarray:
    # Steepest at the lower end of [a - e, a + e]; never below 0, so that sqrt(v) + eps stays a safe divisor. With
    # e > 3 a the upper end is farther away. That is a second moment which is all error: then the first one beside it
    # is as well, and its error over eps is more than what is left out here.
    return value - np.sqrt(np.maximum(a.value - a.error, 0.0))


def _erf(value: np.ndarray, a: RunningErrorArray) -> np.ndarray:
    # |erf'| = 2/sqrt(pi) exp(-x^2) is largest where |x| is smallest
    nearest = np.maximum(np.abs(a.value) - a.error, 0.0)
    return 2.0 / math.sqrt(math.pi) * np.exp(-nearest * nearest) * a.error


def _tanh(value: np.ndarray, a: RunningErrorArray) -> np.ndarray:
    # tanh' = 1 / cosh^2 is largest where |x| is smallest
    nearest = np.maximum(np.abs(a.value) - a.error, 0.0)
    return a.error / np.cosh(np.minimum(nearest, 300.0)) ** 2


def _power(value: np.ndarray, a: RunningErrorArray, b: RunningErrorArray) -> np.ndarray:
    # a^b = exp(b log a), a > 0; or 0^b = 0 of an exact 0, b > 0
    relative = -np.log1p(-a.error / a.value)
    exponent = (np.abs(b.value) + b.error) * relative + b.error * np.abs(np.log(a.value))
    return np.where((a.value == 0.0) & (a.error == 0.0), 0.0, value * np.expm1(exponent))


def _choice(lead: np.ndarray, a: RunningErrorArray, b: RunningErrorArray) -> np.ndarray:
    # `lead` is by how much a is the one to be chosen; beyond both errors it is chosen whatever they are.
    either = np.maximum(a.error, b.error)
    return np.where(lead > a.error + b.error, a.error, np.where(-lead > a.error + b.error, b.error, either))


_PROPAGATED: dict[Any, Callable[..., np.ndarray]] = {
    np.add: lambda value, a, b: a.error + b.error,
    np.subtract: lambda value, a, b: a.error + b.error,
    np.negative: lambda value, a: a.error,
    np.multiply: lambda value, a, b: np.abs(a.value) * b.error + a.error * (np.abs(b.value) + b.error),
    np.matmul: lambda value, a, b: np.abs(a.value) @ b.error + a.error @ (np.abs(b.value) + b.error),
    np.true_divide: _divide,
    np.sqrt: _sqrt,
    np.exp: lambda value, a: value * np.expm1(a.error),
    np.log: lambda value, a: -np.log1p(-a.error / a.value),
    special.erf: _erf,
    np.cos: lambda value, a: np.minimum(a.error, 2.0),
    np.sin: lambda value, a: np.minimum(a.error, 2.0),
    np.tanh: _tanh,
    np.minimum: lambda value, a, b: _choice(b.value - a.value, a, b),
    np.maximum: lambda value, a, b: _choice(a.value - b.value, a, b),
    np.absolute: lambda value, a: a.error,
    np.power: _power,
}
"""Ufunc -> what becomes of the errors of its operands: a bound on |f(a + da, b + db) - f(a, b)|."""
