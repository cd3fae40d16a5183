"""Monte Carlo arithmetic: the error of a long computation, from random losses in each of its operations.

Write L_i for what operation i may lose (arithmetic.py) and c_i for the derivative of a result to it. To first order
the error is sum c_i d_i with |d_i| <= L_i. If the d_i have mean 0 and are independent, Hoeffding's inequality gives

    P( |error| > lambda s ) <= 2 exp(-lambda^2 / 2),   s^2 = sum c_i^2 L_i^2

whatever their distribution; s is the deviation of the result when every d_i is +L_i or -L_i by the toss of a coin,
and that can be simulated: run the oracle several times on `Perturbed` arguments. A systematic error (a library
function that always rounds down, a constant) is common to all entries of an array, so a second set of runs tosses one
coin per operation instead of one per entry, and the two variances are added. Both are measured at a coarse unit
roundoff, where the fp64 noise of the simulation itself does not matter, and scaled: the error is linear in the unit.

lambda = 6 makes the probability 3e-8 per entry, for a subject whose every operation is as wrong as it may be; a sum in
a real order loses about sqrt(n) and not n units, so real subjects stay far below.

Source: Parker, "Monte Carlo arithmetic", UCLA CSD-970002, 1997; Higham, Mary, "A new approach to probabilistic rounding
error analysis", SIAM J. Sci. Comput. 41, 2019, theorem 2.4 (Hoeffding; lambda).
"""

import itertools
import math
from typing import Any, Self

import numpy as np

from reference.arithmetic import WEIGHED, Observed, evaluate, gamma, loss_of, rounding_of

LAMBDA = 6.0
SIMULATED = 2.0**-36
DRAWS = 8


_SIGNS_OF_BYTE = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1.0


class Coins:
    """Signs: one per entry, or one per operation (`common`). Tossed many at a time."""

    AT_A_TIME = 2**12

    def __init__(self, seed: int, common: bool) -> None:
        self.common = common
        self.generator = np.random.Generator(np.random.Philox(seed))
        self.signs: np.ndarray = np.empty(0)
        self.one_by_one = (sign for _ in itertools.count() for sign in self.draw(self.AT_A_TIME).tolist())

    def toss(self, shape: tuple[int, ...]) -> Any:
        """+1 or -1 with equal probability."""
        if self.common or not shape:
            return next(self.one_by_one)
        count = math.prod(shape)
        if count > self.signs.size:
            self.signs = self.draw(max(count, self.AT_A_TIME))
        tossed, self.signs = self.signs[:count], self.signs[count:]
        return tossed.reshape(shape)

    def draw(self, least: int) -> np.ndarray:
        """At least so many signs: the bits of random bytes."""
        return _SIGNS_OF_BYTE[np.frombuffer(self.generator.bytes(-(-least // 8)), np.uint8)].reshape(-1)


class Perturbed(Observed):
    """fp64 values that every operation moves by as much as it may lose, up or down."""

    __slots__ = ()
    coins: Coins

    @classmethod
    def tossing(cls, coins: Coins) -> type[Self]:
        """A class of arrays that share these coins."""
        return type("Perturbed", (cls,), {"coins": coins, "__slots__": ()})

    def constant(self, x: Any, unit: float) -> Self:
        if isinstance(x, Perturbed):
            return x  # type: ignore[return-value]
        value = np.asarray(x, dtype=np.float64)
        if value.ndim == 0 and (loss := rounding_of(float(value), unit)):
            value = np.asarray(value + loss * self.coins.toss(()))
        return type(self)((value,), unit)

    def moved(self, value: np.ndarray, loss: np.ndarray, unit: float) -> Self:
        """The value, off by `loss`, whose memory is used."""
        loss *= self.coins.toss(value.shape)
        loss += value
        return type(self)((loss,), unit)

    def operation(self, ufunc: Any, operands: list[Self], unit: float) -> Self:
        value = evaluate(ufunc, operands)
        magnitudes = [np.abs(x.value) for x in operands] if ufunc in WEIGHED else []
        return self.moved(value, loss_of(ufunc, unit, magnitudes, np.abs(value)), unit)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Self:
        terms = self.size if axis is None else self.shape[axis]
        value = np.asarray(self.value.sum(axis=axis, keepdims=keepdims))
        magnitude = np.abs(self.value).sum(axis=axis, keepdims=keepdims)
        return self.moved(value, gamma(max(terms - 1, 0), self.unit) * magnitude, self.unit)
