"""Arrays of 50-digit numbers: an oracle run on them has no rounding error that a double could show."""

from typing import Any, Self

import mpmath
import numpy as np
from scipy import special

from reference.arithmetic import DOUBLE
from reference.bounds import map_arrays
from reference.traced_array import TracedArray

DIGITS = 50
CONTEXT = mpmath.MPContext()
CONTEXT.dps = DIGITS

to_digits = np.frompyfunc(CONTEXT.mpf, 1, 1)
OPERATIONS = {
    np.exp: np.frompyfunc(CONTEXT.exp, 1, 1),
    np.log: np.frompyfunc(CONTEXT.log, 1, 1),
    np.sqrt: np.frompyfunc(CONTEXT.sqrt, 1, 1),
    np.cos: np.frompyfunc(CONTEXT.cos, 1, 1),
    np.sin: np.frompyfunc(CONTEXT.sin, 1, 1),
    np.tanh: np.frompyfunc(CONTEXT.tanh, 1, 1),
    np.power: np.frompyfunc(CONTEXT.power, 2, 1),
    special.erf: np.frompyfunc(CONTEXT.erf, 1, 1),
}


class FiftyDigits(TracedArray):
    """Exact input, exact operations (to 50 digits). `value` is rounded to double; `parts[0]` has all digits."""

    __slots__ = ()

    @classmethod
    def exact(cls, value: Any, unit: float = DOUBLE) -> Self:
        return cls((np.asarray(to_digits(np.asarray(value, dtype=object)), dtype=object),), unit)

    @property
    def value(self) -> np.ndarray:
        return np.asarray(self.parts[0], dtype=np.float64)

    def constant(self, x: Any, unit: float) -> Self:
        return x if isinstance(x, FiftyDigits) else self.exact(x)  # type: ignore[return-value]

    def operation(self, ufunc: Any, operands: list[Self], unit: float) -> Self:
        result = OPERATIONS.get(ufunc, ufunc)(*(x.parts[0] for x in operands))
        return type(self)((np.asarray(result, dtype=object),), unit)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Self:
        total = self.parts[0].sum(axis=axis, keepdims=keepdims)
        return type(self)((np.asarray(total, dtype=object),), self.unit)


def in_fifty_digits(arguments: Any) -> Any:
    """Arguments of an oracle with every float and float array in 50 digits."""

    def digits(x: Any) -> Any:
        is_float = isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")
        return FiftyDigits.exact(x) if is_float else x

    return map_arrays(digits, arguments)


def error(computed: Any, exact: FiftyDigits) -> np.ndarray:
    """| computed - exact |, rounded to double at the very end."""
    difference = to_digits(np.asarray(computed, dtype=object)) - exact.parts[0]
    return np.abs(np.asarray(difference, dtype=np.float64))
