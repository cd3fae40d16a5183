"""Monte Carlo arithmetic: the error of a long computation, from random losses in each of its operations.

Write L_i for what operation i may lose (arithmetic.py) and c_i for the derivative of a result to it. To first order
the error is sum c_i d_i with |d_i| <= L_i. If the d_i have mean 0 and are independent, Hoeffding's inequality gives

    P( |error| > lambda s ) <= 2 exp(-lambda^2 / 2),   s^2 = sum c_i^2 L_i^2

whatever their distribution; s is the deviation of the result when every d_i is +L_i or -L_i by the toss of a coin,
and that can be simulated: run the oracle on `Perturbed` arguments, several runs side by side. A systematic error (a
library function that always rounds down, a constant) is common to all entries of an array, so a second set of runs
tosses one coin per operation instead of one per entry, and the two variances are added. Both are measured at a coarse
unit roundoff, where the fp64 noise of the simulation itself does not matter, and scaled: the error is linear in it.

lambda = 6 makes the probability 3e-8 per entry, for a subject whose every operation is as wrong as it may be; a sum in
a real order loses about sqrt(n) and not n units, so real subjects stay far below.

Source: Parker, "Monte Carlo arithmetic", UCLA CSD-970002, 1997; Higham, Mary, "A new approach to probabilistic rounding
error analysis", SIAM J. Sci. Comput. 41, 2019, theorem 2.4 (Hoeffding; lambda).
"""

from collections.abc import Callable
from types import EllipsisType
from typing import Any, Self

import numpy as np

from reference.arithmetic import DOUBLE, WEIGHED, Observed, gamma, loss_of, rounding_of

LAMBDA = 6.0
SIMULATED = 2.0**-36
DRAWS = 8
_SIGNS_OF_BYTE = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1.0


class Coins:
    """Signs for several runs at once: in the first `draws` runs one an operation, in as many after them one an entry.

    Tossed many at a time.
    """

    AT_A_TIME = 2**12

    def __init__(self, seed: int, draws: int) -> None:
        self.draws = draws
        self.generator = np.random.Generator(np.random.Philox(seed))
        self.signs: np.ndarray = np.empty(0)

    def toss(self, value: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """`value` [runs, ...], whose memory is used, off by `loss` [1, ...].

        As long as all runs are the same, `value` is [1, ...].
        """
        runs = np.repeat(value, 2 * self.draws, axis=0) if len(value) < 2 * self.draws else value
        common, single = runs[: self.draws], runs[self.draws :]
        common += loss * self.draw(self.draws).reshape((-1,) + (1,) * (runs.ndim - 1))
        signs = self.draw(single.size).reshape(single.shape)
        signs *= loss
        single += signs
        return runs

    def draw(self, count: int) -> np.ndarray:
        """So many signs: bits of random bytes."""
        if count > self.signs.size:
            fresh = self.generator.bytes(max(count, self.AT_A_TIME) // 8 + 1)
            self.signs = _SIGNS_OF_BYTE[np.frombuffer(fresh, np.uint8)].reshape(-1)
        drawn, self.signs = self.signs[:count], self.signs[count:]
        return drawn


class Perturbed(Observed):
    """fp64 values that every operation moves by as much as it may lose, up or down, in several runs at once.

    The first axis of `parts[0]` is that of the runs, of length 1 as long as they are all the same. It is not one of the
    oracle's: `value` is the first run, and what an oracle decides by it is decided for all.
    """

    __slots__ = ()
    coins: Coins

    @classmethod
    def tossing(cls, coins: Coins) -> type[Self]:
        """A class of arrays that share these coins."""
        return type("Perturbed", (cls,), {"coins": coins, "__slots__": ()})

    @classmethod
    def exact(cls, value: Any, unit: float) -> Self:
        return cls((np.asarray(value, dtype=np.float64)[None],), unit)

    @property
    def value(self) -> np.ndarray:
        first: np.ndarray = self.parts[0][0]
        return first

    def constant(self, x: Any, unit: float) -> Self:
        if isinstance(x, Perturbed):
            return x  # type: ignore[return-value]
        value = np.asarray(x, dtype=np.float64)[None]
        if value.ndim == 1 and (loss := rounding_of(float(value[0]), unit)):
            value = self.coins.toss(value, np.array([loss]))
        return type(self)((value,), unit)

    def moved(self, value: np.ndarray, loss: np.ndarray, unit: float) -> Self:
        """The values of the runs, whose memory is used, off by `loss`: that of the first, the others are as large."""
        return type(self)((self.coins.toss(value, loss),), unit)

    def operation(self, ufunc: Any, operands: list[Self], unit: float) -> Self:
        values = aligned([x.parts[0] for x in operands])
        if ufunc is np.matmul and min(x.ndim for x in operands) < 2:
            raise TypeError("a product with a vector cannot be simulated; make it a matrix")
        value = ufunc(*values)
        magnitudes = [np.abs(x[:1]) for x in values] if ufunc in WEIGHED else []
        return self.moved(value, loss_of(ufunc, unit, magnitudes, np.abs(value[:1])), unit)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Self:
        terms = self.size if axis is None else self.shape[axis]
        runs, over = self.parts[0], self.axis_of_runs(axis)
        magnitude = np.abs(runs[:1]).sum(axis=over, keepdims=keepdims)
        loss = gamma(max(terms - 1, 0), self.unit) * magnitude
        return self.moved(runs.sum(axis=over, keepdims=keepdims), loss, self.unit)

    def axis_of_runs(self, axis: int | None) -> Any:
        """An axis of the oracle's, or all of them, among those of `parts[0]`."""
        if axis is None:
            return tuple(range(1, self.parts[0].ndim))
        return axis if axis < 0 else axis + 1

    def move(self, function: Callable[..., np.ndarray], *operands: Any) -> Self:
        like = [x if isinstance(x, Observed) else self.exact(x, DOUBLE) for x in operands]
        runs = same_runs([x.parts[0] for x in like])
        moved = np.stack([function(*run) for run in zip(*runs, strict=True)])
        return type(self)((moved,), max(x.unit for x in like))

    def __getitem__(self, index: Any) -> Self:
        places = index if isinstance(index, tuple) else (index,)
        picked = [place for place in places if not isinstance(place, slice | EllipsisType | None)]
        if len(picked) > 1 and not all(isinstance(place, int) for place in picked):
            # NumPy would put the axes that arrays pick before that of the runs.
            return self.move(lambda run: run[index], self)
        return self.each(lambda runs: runs[(slice(None), *places)])

    def reshape(self, *shape: Any) -> Self:
        lengths = shape[0] if isinstance(shape[0], tuple) else shape
        return self.each(lambda runs: runs.reshape((len(runs), *lengths)))

    def swapaxes(self, a: int, b: int) -> Self:
        return self.each(lambda runs: runs.swapaxes(self.axis_of_runs(a), self.axis_of_runs(b)))

    def max(self, axis: int | None = None, keepdims: bool = False) -> Self:
        return self.each(lambda runs: runs.max(axis=self.axis_of_runs(axis), keepdims=keepdims))

    @property
    def T(self) -> Self:
        return self.each(lambda runs: runs.transpose(0, *range(runs.ndim - 1, 0, -1)))


def aligned(stacks: list[np.ndarray]) -> list[np.ndarray]:
    """The same, but broadcast as the runs' arrays would be: missing axes come behind that of the runs."""
    most = max(x.ndim for x in stacks)
    return [
        x.reshape((len(x),) + (1,) * (most - x.ndim) + x.shape[1:]) if x.ndim < most else x for x in stacks
    ]


def same_runs(stacks: list[np.ndarray]) -> list[np.ndarray]:
    """The same, of as many runs each."""
    most = max(len(x) for x in stacks)
    return [np.broadcast_to(x, (most, *x.shape[1:])) for x in stacks]
