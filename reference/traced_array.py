"""Arrays that trace the rounding errors of what is computed with them.

The oracles are plain NumPy, so they run unchanged on the arrays defined here, as they do on complex ones: operators,
and functions that NumPy hands over (`__array_ufunc__`, `__array_function__`, NEP 13 and NEP 18), come to `TracedArray`,
and its subclasses say what becomes of the error that the model (arithmetic.py) allows each operation.
running_error.py propagates worst cases, monte_carlo.py draws the errors at random.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from reference.arithmetic import DOUBLE, ROUNDINGS, unit_roundoff

COMPARISONS = {
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
    np.isfinite,
    np.isnan,
    np.sign,
}
"""Predicates, which are evaluated on the values alone: their results are plain arrays, without an error."""


def _operators(ufunc: np.ufunc) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """x op y and its reflection. Those of the mixin dispatch through NumPy, which takes as long as the operation."""

    def operator(self: TracedArray, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", self, other)

    def reflected(self: TracedArray, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", other, self)

    return operator, reflected


class TracedArray(NDArrayOperatorsMixin):
    """An fp64 array that sees each operation it takes part in. `parts[0]` holds the values; a subclass may add arrays.

    `unit` is the unit roundoff of the subject's arithmetic; an operation on two of them has the larger one. Methods are
    those of ndarray, with its shapes and errors. A function that is not in the model is a TypeError, raised by NumPy.
    """

    __slots__ = ("parts", "unit")
    n_parts: ClassVar[int] = 1

    __add__, __radd__ = _operators(np.add)
    __sub__, __rsub__ = _operators(np.subtract)
    __mul__, __rmul__ = _operators(np.multiply)
    __truediv__, __rtruediv__ = _operators(np.true_divide)
    __matmul__, __rmatmul__ = _operators(np.matmul)

    def __init__(self, parts: tuple[np.ndarray, ...], unit: float) -> None:
        self.parts = parts
        self.unit = unit

    @classmethod
    def exact(cls, value: Any, unit: float) -> Self:
        """An array of any shape without an error: an argument that the subject receives as it is."""
        value = np.asarray(value, dtype=np.float64)
        return cls((value, *(np.zeros_like(value) for _ in range(cls.n_parts - 1))), unit)

    def operation(self, ufunc: Any, operands: list[Self], unit: float) -> Self:
        """Result of an elementwise operation, operands broadcast, or of a product of [..., n, k] and [..., k, m]."""
        raise NotImplementedError

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Self:
        """Sum along an axis, or of all entries: the subject may add them in any order."""
        raise NotImplementedError

    def constant(self, x: Any, unit: float) -> Self:
        """An operand, a number or an array of any shape, as an array of this class with this unit roundoff."""
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc in COMPARISONS:
            return ufunc(*(x.value if isinstance(x, TracedArray) else x for x in inputs))
        if ufunc not in ROUNDINGS and ufunc is not np.matmul:
            return NotImplemented
        unit = max([x.unit for x in inputs if isinstance(x, TracedArray)])
        with np.errstate(all="ignore"):
            return self.operation(ufunc, [self.constant(x, unit) for x in inputs], unit)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.arange:  # np.arange(n, like=self)
            return self.exact(np.arange(*args, **kwargs), self.unit)
        if func is np.real:
            # The oracles take np.real of shifts alone, on which no exact result depends: a shift has no error.
            return self.exact(args[0].value, self.unit)
        if func in _METHODS:  # np.sum(x, ...) is x.sum(...)
            return getattr(args[0], _METHODS[func])(*args[1:], **kwargs)
        if func in (np.zeros_like, np.ones_like):
            return func(args[0].value)
        return _REARRANGEMENTS[func](self, *args, **kwargs) if func in _REARRANGEMENTS else NotImplemented

    def rearrange(self, function: Callable[..., np.ndarray], *operands: Any) -> Self:
        """A function that copies and reorders entries, of each part of the operands; its result has any shape."""
        like = [x if isinstance(x, TracedArray) else self.exact(x, DOUBLE) for x in operands]
        parts = tuple(function(*(x.parts[i] for x in like)) for i in range(self.n_parts))
        return type(self)(parts, max(x.unit for x in like))

    def map_parts(self, function: Callable[[np.ndarray], np.ndarray]) -> Self:
        """The same for this array alone, which is faster; the result may have any shape."""
        return type(self)(tuple([function(part) for part in self.parts]), self.unit)

    def __getitem__(self, index: Any) -> Self:
        return self.map_parts(lambda part: part[index])

    def reshape(self, *shape: Any) -> Self:
        """The same entries in another shape: a tuple, or lengths."""
        return self.map_parts(lambda part: part.reshape(*shape))

    def swapaxes(self, a: int, b: int) -> Self:
        """Two axes exchanged."""
        return self.map_parts(lambda part: part.swapaxes(a, b))

    def max(self, axis: int | None = None, keepdims: bool = False) -> Self:
        """Largest entry along an axis, or of all: a choice, with no rounding of its own."""
        return self.map_parts(functools.partial(np.max, axis=axis, keepdims=keepdims))

    def mean(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Mean along an axis, or of all entries: the sum, divided once."""
        total = self.sum(axis=axis, keepdims=keepdims)
        return total / float(self.size // max(total.size, 1))

    def var(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Variance with divisor n by the two-pass algorithm: the mean square of the centred entries (Higham, 1.9)."""
        centred: Any = self - self.mean(axis=axis, keepdims=True)
        return (centred * centred).mean(axis=axis, keepdims=keepdims)

    def std(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Square root of the variance."""
        return np.sqrt(self.var(axis=axis, keepdims=keepdims))

    def copy(self) -> Self:
        """A copy of every part."""
        return self.map_parts(np.copy)

    def astype(self, dtype: Any) -> Self:
        """The same numbers, in the arithmetic of `dtype` from here on, if its unit roundoff is the smaller one."""
        return type(self)(self.parts, min(self.unit, unit_roundoff(dtype)))

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        """The value, for a decision that depends on it."""
        return float(self.value)

    @property
    def value(self) -> np.ndarray:
        """The values, of the array's shape, as evaluation in fp64 gives them."""
        return self.parts[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64."""
        return self.value.dtype

    @property
    def T(self) -> Self:
        """The transpose: all axes in reverse order."""
        return self.map_parts(np.transpose)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.value.size


_REARRANGEMENTS: dict[Any, Callable[..., TracedArray]] = {
    np.where: lambda self, condition, a, b: self.rearrange(lambda x, y: np.where(condition, x, y), a, b),
    np.concatenate: lambda self, parts, axis=0: self.rearrange(
        lambda *arrays: np.concatenate(arrays, axis=axis), *parts
    ),
    np.take_along_axis: lambda self, x, indices, axis: self.rearrange(
        lambda part: np.take_along_axis(part, indices, axis=axis), x
    ),
}
_METHODS = {np.max: "max", np.sum: "sum", np.mean: "mean", np.var: "var", np.std: "std"}
