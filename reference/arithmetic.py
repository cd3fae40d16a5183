"""What a correct subject may lose in one operation, and arrays that take note of it.

A correct subject evaluates the oracle's formula in floating point with unit roundoff u. Then
- each + - * sqrt is rounded once (or not at all: a fused multiply-add only drops roundings);
- a division may be a multiplication by a reciprocal: two roundings;
- a sum or dot product of n terms is added in any order: gamma_n = n u / (1 - n u) times the sum of the magnitudes;
- exp, log, sin, cos, tanh and powers are within `ELEMENTARY_ULPS` units in the last place; erf within `ERF_ULPS`, or
  else erfc, with erf = 1 - erfc;
- a constant that is not exact in single precision is rounded once;
- a result below the normal range loses at most the smallest normal number: it may be flushed to 0, as XLA does.

The oracles are plain NumPy, so they run unchanged on the arrays defined here, as they do on complex ones: operators,
and functions that NumPy hands over, come to `Observed`, and its two subclasses say what becomes of the loss.
`running_error.Tracked` adds up worst cases; `monte_carlo.Perturbed` draws it at random.

Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002: sections 2.2 (the model), 3.1
(gamma_n), 4.2 (any order of summation).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

SINGLE, DOUBLE = 2.0**-24, 2.0**-53
UNIT = {np.dtype(np.float32): SINGLE, np.dtype(np.float64): DOUBLE}
UNDERFLOW = {SINGLE: 2.0**-126, DOUBLE: 2.0**-1022}
ELEMENTARY_ULPS = 4
"""Units in the last place a subject's exp, log, sin, cos, tanh and pow may be wrong. NumPy's worst is below 3."""
ERF_ULPS = 6
"""The same for erf, erfc and what is made of them. oneDNN's, in PyTorch's GELU for float32, is 5.6 ulps of 1 off."""
ELEMENTARY = 2 * ELEMENTARY_ULPS
"""The same in roundings: one ulp is at most two units roundoff."""

ROUNDINGS: dict[Any, int] = {
    np.add: 1,
    np.subtract: 1,
    np.multiply: 1,
    np.true_divide: 2,
    np.negative: 0,
    np.sqrt: 1,
    np.exp: ELEMENTARY,
    np.log: ELEMENTARY,
    np.cos: ELEMENTARY,
    np.sin: ELEMENTARY,
    np.tanh: ELEMENTARY,
    np.minimum: 0,
    np.maximum: 0,
    np.absolute: 0,
    np.power: ELEMENTARY,
    special.erf: 2 * ERF_ULPS,
}
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
"""Choices that a correct subject makes exactly: their results are plain."""
WEIGHED = {np.matmul, np.power}
"""What these may lose depends on the magnitudes of their operands, not on that of the result alone."""


def unit_roundoff(dtype: Any) -> float:
    """2^-24 for float32, 2^-53 for float64; any other dtype is a TypeError."""
    try:
        return UNIT[np.dtype(dtype)]
    except KeyError:
        raise TypeError(f"bounds are derived for float32 and float64, not for {np.dtype(dtype)}") from None


def gamma(n: float, unit: float) -> float:
    """Relative error of n roundings in a row; infinite when n u >= 1."""
    return n * unit / (1.0 - n * unit) if n * unit < 1.0 else math.inf


def exact_in_single(value: np.ndarray) -> np.ndarray:
    """Whether a constant needs no rounding in any precision we grade."""
    return value.astype(np.float32).astype(np.float64) == value


def rounding_of(constant: float, unit: float) -> float:
    """What a constant may lose when it is rounded once."""
    return 0.0 if float(np.float32(constant)) == constant else unit * abs(constant)


def loss_of(ufunc: Any, unit: float, magnitudes: list[np.ndarray], magnitude: np.ndarray) -> np.ndarray:
    """What one operation may lose, from the magnitude of its result, and of its operands if it is `WEIGHED`."""
    if ufunc is np.matmul:
        flushed = roundings = magnitudes[0].shape[-1]
        magnitude = magnitudes[0] @ magnitudes[1]
    else:
        roundings = ROUNDINGS[ufunc]
        flushed = min(roundings, 1)
    if ufunc is special.erf:  # it may be computed as 1 - erfc
        magnitude = np.ones_like(magnitude)
    if ufunc is np.power:  # an integer power may also be multiplied out
        roundings += float(np.max(magnitudes[1]))
    loss = gamma(roundings, unit) * magnitude
    if flushed and unit in UNDERFLOW:
        loss += flushed * UNDERFLOW[unit]
    return loss


def evaluate(ufunc: Any, operands: list[Any]) -> np.ndarray:
    """The operation on the values alone."""
    return ufunc(*[x.parts[0] for x in operands])


def _operators(ufunc: np.ufunc) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """x op y and its reflection. The mixin's go through NumPy, which takes as long as the operation itself."""

    def operator(self: Observed, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", self, other)

    def reflected(self: Observed, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", other, self)

    return operator, reflected


class Observed(NDArrayOperatorsMixin):
    """An fp64 array whose operations are watched. `parts[0]` holds the values; a subclass may carry more arrays.

    Its unit roundoff is that of the subject's arithmetic; an operation on two of them has the coarser one.
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
        """Numbers the subject gets as they are."""
        value = np.asarray(value, dtype=np.float64)
        return cls((value, *(np.zeros_like(value) for _ in range(cls.n_parts - 1))), unit)

    def operation(self, ufunc: Any, operands: list[Self], unit: float) -> Self:
        """Result of an elementwise operation or a matrix product."""
        raise NotImplementedError

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Self:
        """Sum along an axis, in any order."""
        raise NotImplementedError

    def constant(self, x: Any, unit: float) -> Self:
        """Another operand as one of us, in arithmetic of this unit roundoff."""
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc in COMPARISONS:
            return ufunc(*(x.value if isinstance(x, Observed) else x for x in inputs))
        if ufunc not in ROUNDINGS and ufunc is not np.matmul:
            return NotImplemented
        unit = max([x.unit for x in inputs if isinstance(x, Observed)])
        with np.errstate(all="ignore"):
            return self.operation(ufunc, [self.constant(x, unit) for x in inputs], unit)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.arange:  # np.arange(n, like=self)
            return self.exact(np.arange(*args, **kwargs), self.unit)
        if func is np.real:
            # The oracles take np.real of a number they use as a shift only; its error changes no exact result.
            return self.exact(args[0].value, self.unit)
        if func in _METHODS:  # np.sum(x, ...) is x.sum(...)
            return getattr(args[0], _METHODS[func])(*args[1:], **kwargs)
        if func in (np.zeros_like, np.ones_like):
            return func(args[0].value)
        return _MOVES[func](self, *args, **kwargs) if func in _MOVES else NotImplemented

    def move(self, function: Callable[..., np.ndarray], *operands: Any) -> Self:
        """The same rearrangement of every part."""
        like = [x if isinstance(x, Observed) else self.exact(x, DOUBLE) for x in operands]
        parts = tuple(function(*(x.parts[i] for x in like)) for i in range(self.n_parts))
        return type(self)(parts, max(x.unit for x in like))

    def each(self, function: Callable[[np.ndarray], np.ndarray]) -> Self:
        """The same for this array alone."""
        return type(self)(tuple([function(part) for part in self.parts]), self.unit)

    def __getitem__(self, index: Any) -> Self:
        return self.each(lambda part: part[index])

    def reshape(self, *shape: Any) -> Self:
        return self.each(lambda part: part.reshape(*shape))

    def swapaxes(self, a: int, b: int) -> Self:
        return self.each(lambda part: part.swapaxes(a, b))

    def max(self, axis: int | None = None, keepdims: bool = False) -> Self:
        return self.each(functools.partial(np.max, axis=axis, keepdims=keepdims))

    def mean(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Sum along an axis, divided once."""
        total = self.sum(axis=axis, keepdims=keepdims)
        return total / float(self.size // max(total.size, 1))

    def var(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Of two passes: the mean square of what is left without the mean."""
        centred: Any = self - self.mean(axis=axis, keepdims=True)
        return (centred * centred).mean(axis=axis, keepdims=keepdims)

    def std(self, axis: int | None = None, keepdims: bool = False) -> Any:
        return np.sqrt(self.var(axis=axis, keepdims=keepdims))

    def copy(self) -> Self:
        return self.each(np.copy)

    def astype(self, dtype: Any) -> Self:
        """The same numbers, computed with from here on in the arithmetic of `dtype` (a finer one)."""
        return type(self)(self.parts, min(self.unit, unit_roundoff(dtype)))

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        """The value, for a choice that a correct subject makes exactly."""
        return float(self.value)

    @property
    def value(self) -> np.ndarray:
        return self.parts[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def T(self) -> Self:
        return self.each(np.transpose)

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size


def _where(self: Observed, condition: Any, a: Any, b: Any) -> Observed:
    def select(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(condition, x, y)

    return self.move(select, a, b)


def _concatenate(self: Observed, parts: Any, axis: int = 0) -> Observed:
    return self.move(lambda *arrays: np.concatenate(arrays, axis=axis), *parts)


def _take_along_axis(self: Observed, x: Observed, indices: np.ndarray, axis: int) -> Observed:
    return self.move(lambda part: np.take_along_axis(part, indices, axis=axis), x)


_MOVES: dict[Any, Callable[..., Observed]] = {
    np.where: _where,
    np.concatenate: _concatenate,
    np.take_along_axis: _take_along_axis,
}
_METHODS = {np.max: "max", np.sum: "sum", np.mean: "mean", np.var: "var", np.std: "std"}
