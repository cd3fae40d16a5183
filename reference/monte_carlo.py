"""Monte Carlo arithmetic: the error of a long computation, from random errors in each of its operations.

Write L_i for the bound on the rounding error of operation i (arithmetic.py) and c_i for the derivative of a result to
it. To first order the error is sum c_i d_i with |d_i| <= L_i. If the d_i have mean 0 and are independent, Hoeffding's
inequality gives

    P( |error| > lambda s ) <= 2 exp(-lambda^2 / 2),   s^2 = sum c_i^2 L_i^2

whatever their distribution; s is the standard deviation of the result when each d_i is +L_i or -L_i with equal
probability, and that can be simulated: run the oracle on `Perturbed` arguments, several runs at once. A systematic
error (a library function that always rounds down, a constant) is common to all entries of an array, so a second set of
runs draws one sign for each operation instead of one for each entry, and the two variances are added. Both are
measured at a large unit roundoff, where the fp64 rounding of the simulation itself is negligible, and scaled: the error
is linear in it.

lambda = 6 makes the probability 3e-8 per entry, for a subject whose every operation has the largest error it may have;
a sum in a real order has an error of about sqrt(n) and not n units, so real subjects stay far below.

Source: Parker, "Monte Carlo arithmetic", UCLA CSD-970002, 1997; Higham, Mary, "A new approach to probabilistic rounding
error analysis", SIAM J. Sci. Comput. 41, 2019, theorem 2.4 (Hoeffding; lambda).
"""

from collections.abc import Callable
from types import EllipsisType
from typing import Any, Self

import numpy as np

from reference.arithmetic import DOUBLE, MAGNITUDE_DEPENDENT, constant_error, gamma, rounding_error
from reference.traced_array import TracedArray

LAMBDA = 6.0
"""The bound in standard deviations."""
SIMULATED = 2.0**-36
"""Unit roundoff of the simulation."""
DRAWS = 8
"""Runs of either kind."""
_SIGNS_OF_BYTE = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1.0


class RandomSigns:
    """Random signs for several runs: in the first `draws` runs one for each operation, in as many after them one for
    each entry. Generated many at a time, by Philox, as a function of `seed`.
    """

    AT_A_TIME = 2**12

    def __init__(self, seed: int, draws: int) -> None:
        self.draws = draws
        self.generator = np.random.Generator(np.random.Philox(seed))
        self.signs: np.ndarray = np.empty(0)

    def perturb(self, value: np.ndarray, error: np.ndarray) -> np.ndarray:
        """`value` [runs, ...], which is overwritten, plus or minus `error` [1, ...].

        As long as all runs are equal, `value` is [1, ...]; the result has all 2 * draws of them.
        """
        runs = np.repeat(value, 2 * self.draws, axis=0) if len(value) < 2 * self.draws else value
        common, single = runs[: self.draws], runs[self.draws :]
        common += error * self.draw(self.draws).reshape((-1,) + (1,) * (runs.ndim - 1))
        signs = self.draw(single.size).reshape(single.shape)
        signs *= error
        single += signs
        return runs

    def draw(self, count: int) -> np.ndarray:
        """The next signs [count], +1 or -1: the bits of random bytes."""
        if count > self.signs.size:
            fresh = self.generator.bytes(max(count, self.AT_A_TIME) // 8 + 1)
            self.signs = _SIGNS_OF_BYTE[np.frombuffer(fresh, np.uint8)].reshape(-1)
        drawn, self.signs = self.signs[:count], self.signs[count:]
        return drawn


class Perturbed(TracedArray):
    """fp64 values to which every operation adds the largest error it may have, with a random sign, in several runs.

    The first axis of `parts[0]` is that of the runs, of length 1 as long as they are all equal. The oracle does not see
    it: `value` is the first run, and a decision that depends on it is made for all.
    """

    __slots__ = ()
    signs: RandomSigns

    @classmethod
    def with_signs(cls, signs: RandomSigns) -> type[Self]:
        """A class of arrays that take their random signs from here."""
        return type("Perturbed", (cls,), {"signs": signs, "__slots__": ()})

    @classmethod
    def exact(cls, value: Any, unit: float) -> Self:
        """An array of any shape without an error, the same in all runs."""
        return cls((np.asarray(value, dtype=np.float64)[None],), unit)

    @property
    def value(self) -> np.ndarray:
        """The values of the first run, of the shape that the oracle sees."""
        first: np.ndarray = self.parts[0][0]
        return first

    def constant(self, x: Any, unit: float) -> Self:
        """A plain operand; a number that is inexact in single precision gets the error of one rounding."""
        if isinstance(x, Perturbed):
            return x  # type: ignore[return-value]
        value = np.asarray(x, dtype=np.float64)[None]
        if value.ndim == 1 and (error := constant_error(float(value[0]), unit)):
            value = self.signs.perturb(value, np.array([error]))
        return type(self)((value,), unit)

    def perturbed(self, value: np.ndarray, error: np.ndarray, unit: float) -> Self:
        """Values [runs, ...], which are overwritten, with errors of this size [1, ...], computed from the first run."""
        return type(self)((self.signs.perturb(value, error),), unit)

    def operation(self, ufunc: Any, operands: list[Self], unit: float) -> Self:
        """The operation in every run, with its rounding error. TypeError for a matrix product with a vector."""
        values = broadcastable([x.parts[0] for x in operands])
        if ufunc is np.matmul and min(x.ndim for x in operands) < 2:
            raise TypeError("a product with a vector cannot be simulated; make it a matrix")
        value = ufunc(*values)
        magnitudes = [np.abs(x[:1]) for x in values] if ufunc in MAGNITUDE_DEPENDENT else []
        return self.perturbed(value, rounding_error(ufunc, unit, magnitudes, np.abs(value[:1])), unit)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Self:
        """The sum in every run, with an error of gamma_(n-1) times the sum of the magnitudes."""
        terms = self.size if axis is None else self.shape[axis]
        runs, over = self.parts[0], self.axis_of_runs(axis)
        magnitude = np.abs(runs[:1]).sum(axis=over, keepdims=keepdims)
        error = gamma(max(terms - 1, 0), self.unit) * magnitude
        return self.perturbed(runs.sum(axis=over, keepdims=keepdims), error, self.unit)

    def axis_of_runs(self, axis: int | None) -> Any:
        """The axis of `parts[0]` that is this axis of the oracle's array; for None all of those, as a tuple."""
        if axis is None:
            return tuple(range(1, self.parts[0].ndim))
        return axis if axis < 0 else axis + 1

    def rearrange(self, function: Callable[..., np.ndarray], *operands: Any) -> Self:
        """A function that copies and reorders entries, of each run; its result may have any shape."""
        like = [x if isinstance(x, TracedArray) else self.exact(x, DOUBLE) for x in operands]
        runs = equally_many([x.parts[0] for x in like])
        moved = np.stack([function(*run) for run in zip(*runs, strict=True)])
        return type(self)((moved,), max(x.unit for x in like))

    def __getitem__(self, index: Any) -> Self:
        places = index if isinstance(index, tuple) else (index,)
        picked = [place for place in places if not isinstance(place, slice | EllipsisType | None)]
        if len(picked) > 1 and not all(isinstance(place, int) for place in picked):
            # NumPy would put the axes of several index arrays before that of the runs.
            return self.rearrange(lambda run: run[index], self)
        return self.map_parts(lambda runs: runs[(slice(None), *places)])

    def reshape(self, *shape: Any) -> Self:
        """The same entries in another shape, without the axis of the runs."""
        lengths = shape[0] if isinstance(shape[0], tuple) else shape
        return self.map_parts(lambda runs: runs.reshape((len(runs), *lengths)))

    def swapaxes(self, a: int, b: int) -> Self:
        """Two axes exchanged."""
        return self.map_parts(lambda runs: runs.swapaxes(self.axis_of_runs(a), self.axis_of_runs(b)))

    def max(self, axis: int | None = None, keepdims: bool = False) -> Self:
        """Largest entry along an axis, or of all, in every run."""
        return self.map_parts(lambda runs: runs.max(axis=self.axis_of_runs(axis), keepdims=keepdims))

    @property
    def T(self) -> Self:
        """The transpose of every run."""
        return self.map_parts(lambda runs: runs.transpose(0, *range(runs.ndim - 1, 0, -1)))


def broadcastable(stacks: list[np.ndarray]) -> list[np.ndarray]:
    """Stacks [runs, ...] that broadcast as the arrays of single runs do: missing axes are inserted after the first."""
    most = max(x.ndim for x in stacks)
    return [
        x.reshape((len(x),) + (1,) * (most - x.ndim) + x.shape[1:]) if x.ndim < most else x for x in stacks
    ]


def equally_many(stacks: list[np.ndarray]) -> list[np.ndarray]:
    """Stacks [runs, ...] with as many runs each: one that is [1, ...] is repeated."""
    most = max(len(x) for x in stacks)
    return [np.broadcast_to(x, (most, *x.shape[1:])) for x in stacks]
