"""How far a correct implementation may be from each oracle. Nothing is compared with a guessed tolerance.

Two kinds of bound, both computed by running the oracle itself on traced arrays (traced_array.py):

`worst_case` (running_error.py) holds for every correct subject:

    bound = E(u) (1 + 2^-53 / u + 2^-20)

E(u) is the bound for a subject with unit roundoff u. The second term is the rounding of the oracle, evaluated in
double precision: E is convex in u and E(0) = 0, hence E(2^-53) <= E(u) 2^-53 / u. The third covers the arithmetic of
the bound itself. Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, section 3.3.

`probable` (monte_carlo.py) holds with probability 1 - 3e-8 an entry. It is for whole models: there the worst case of
every operation at once is so far from what happens that it is useless.

The learning rate, a number and not an array, has its bound written out.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.arithmetic import DOUBLE, ELEMENTARY, unit_roundoff
from reference.monte_carlo import DRAWS, LAMBDA, SIMULATED, Perturbed, RandomSigns
from reference.running_error import RunningErrorArray
from reference.traced_array import TracedArray


@dataclass(frozen=True)
class Bounded:
    """An oracle's value and, entry by entry, the bound on |subject - oracle|."""

    value: np.ndarray
    bound: np.ndarray


def map_arrays(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """`function` of every array in a result (and of those at the same place in the others), in the same structure.

    ValueError for a list in the others of another length, KeyError for a missing entry.
    """
    if isinstance(tree, Mapping):
        return {key: map_arrays(function, item, *(o[key] for o in others)) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return tuple(map_arrays(function, *items) for items in zip(tree, *others, strict=True))
    return function(tree, *others)


def named_arrays(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, array) of everything in a result: "" for a single array, "[1]" in a tuple, "['E']" in a mapping."""
    if isinstance(tree, np.ndarray):
        yield name, tree
    elif isinstance(tree, (list, tuple)):
        for position, item in enumerate(tree):
            yield from named_arrays(item, f"{name}[{position}]")
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from named_arrays(item, f"{name}[{key!r}]")
    else:
        yield name, tree


def traced(arguments: Any, kind: type[TracedArray], unit: float, scalars: str = "double") -> Any:
    """Arguments of an oracle as traced arrays: float arrays in the subject's arithmetic, plain floats in double.

    scalars = "dtype" is for a subject that keeps hyper-parameters in the dtype of its arrays, as JAX does: a plain
    float is then rounded to that dtype, and what is computed from it alone (1 - beta, beta^t, 1 - lr wd) is rounded
    there too. 1 - beta2^t for small t has the largest relative error: u / (1 - beta2).
    """

    def trace(x: Any) -> Any:
        if isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating):
            return kind.exact(x, unit)
        if not isinstance(x, float):
            return x
        return (
            kind.exact(0.0, unit).constant(x, unit)
            if scalars == "dtype"
            else kind.exact(x, min(unit, DOUBLE))
        )

    return map_arrays(trace, arguments)


def run(oracle: Callable[..., Any], *args: Any, dtype: Any, scalars: str = "double", **kwargs: Any) -> Any:
    """The oracle's result as `RunningErrorArray`s, for a subject that computes in `dtype`."""
    unit = unit_roundoff(dtype)
    return oracle(
        *traced(args, RunningErrorArray, unit, scalars), **traced(kwargs, RunningErrorArray, unit, scalars)
    )


def allowed(x: RunningErrorArray) -> np.ndarray:
    """Bound on |subject - oracle|, both of them rounded, of the shape of x: the formula above."""
    return x.error * (1.0 + DOUBLE / x.unit + 2.0**-20)


def worst_case(
    oracle: Callable[..., Any], *args: Any, dtype: Any, scalars: str = "double", **kwargs: Any
) -> Any:
    """The oracle's result as `Bounded` arrays; the bound holds for every correct subject."""
    tracked = run(oracle, *args, dtype=dtype, scalars=scalars, **kwargs)
    return map_arrays(lambda x: Bounded(x.value, allowed(x)), tracked)


@dataclass(frozen=True)
class Simulated:
    """An oracle's value and, entry by entry, the standard deviation of a subject with unit roundoff 1.

    It is linear in the unit roundoff.
    """

    value: np.ndarray
    deviation: np.ndarray

    def bounded(self, dtype: Any) -> Bounded:
        """LAMBDA deviations, of the subject and of the oracle; below the smallest normal number nothing is compared.

        TypeError for a dtype other than float32 and float64.
        """
        bound = LAMBDA * (unit_roundoff(dtype) + DOUBLE) * self.deviation
        return Bounded(self.value, bound + float(np.finfo(dtype).smallest_normal))


def simulate(
    oracle: Callable[..., Any], *args: Any, draws: int = DRAWS, scalars: str = "double", **kwargs: Any
) -> Any:
    """The oracle's result as `Simulated` arrays, from `draws` runs of either kind; `scalars` as in `traced`.

    A run takes some 3 times as long as a plain one, far less if the arrays are small; all are in memory at once.
    """
    plain = oracle(*args, **kwargs)
    kind = Perturbed.with_signs(RandomSigns(0, draws))
    runs = oracle(*traced(args, kind, SIMULATED, scalars), **traced(kwargs, kind, SIMULATED, scalars))

    def deviation(x: Any, y: Perturbed) -> Simulated:
        errors = (y.parts[0] - x) / SIMULATED
        return Simulated(np.asarray(x), np.sqrt((errors * errors).sum(axis=0) / draws))

    return map_arrays(deviation, plain, runs)


def probable(oracle: Callable[..., Any], *args: Any, dtype: Any, draws: int = DRAWS, **kwargs: Any) -> Any:
    """The oracle's result as `Bounded` arrays; the bound holds with the probability that monte_carlo.py derives."""
    return map_arrays(lambda x: x.bounded(dtype), simulate(oracle, *args, draws=draws, **kwargs))


@dataclass(frozen=True)
class Agreement:
    """How a result compares with the oracle: the entry with the largest error / bound, or the first beyond it."""

    ratio: float
    """Largest error / bound; at most 1 for a correct implementation."""
    silent: float = 0.0
    """Largest share of an array about which the bound says nothing (it is infinite)."""
    where: str = ""
    """The first entry beyond the bound, or the one with the largest ratio."""
    got: float = math.nan
    expected: float = math.nan
    bound: float = math.nan

    @property
    def within(self) -> bool:
        """Whether every entry is within its bound."""
        return self.ratio <= 1.0


def compare(got: Any, value: Any, bound: Any, name: str = "") -> Agreement:
    """One array against an oracle's values and bounds, all of one shape. For a wrong shape or a NaN: infinite."""
    array, value, bound = (np.asarray(x, dtype=np.float64) for x in (got, value, bound))
    if array.shape != value.shape:
        return Agreement(math.inf, where=f"{name} of shape {array.shape} instead of {value.shape}".strip())
    if array.size == 0:
        return Agreement(0.0)
    with np.errstate(all="ignore"):
        error = np.where(array == value, 0.0, np.abs(array - value))
        ratio = np.where(error == 0.0, 0.0, error / bound)
    ratio = np.where(np.isnan(ratio), np.inf, ratio).reshape(-1)
    beyond = np.flatnonzero(ratio > 1.0)
    at = int(beyond[0]) if beyond.size else int(np.argmax(ratio))
    index = ", ".join(str(int(i)) for i in np.unravel_index(at, array.shape))
    where = f"{name}[{index}]" if index else name
    silent = float(np.mean(~np.isfinite(bound)))
    numbers = (float(x.reshape(-1)[at]) for x in (array, value, bound))
    return Agreement(float(ratio.max()), silent, where, *numbers)


def compare_all(got: Any, expected: Any) -> Agreement:
    """Every array of a result against `Bounded` ones: the largest ratio, and the first entry beyond its bound."""
    results, bounded = dict(named_arrays(got)), dict(named_arrays(expected))
    if results.keys() != bounded.keys():
        missing, extra = sorted(bounded.keys() - results.keys()), sorted(results.keys() - bounded.keys())
        return Agreement(math.inf, where=f"a result without {missing} and with {extra}")
    agreements = [compare(results[name], b.value, b.bound, name) for name, b in bounded.items()]
    beyond = [a for a in agreements if not a.within]
    first = beyond[0] if beyond else max(agreements, key=lambda a: a.ratio)
    ratio, silent = max(a.ratio for a in agreements), max(a.silent for a in agreements)
    return Agreement(ratio, silent, first.where, first.got, first.expected, first.bound)


def check(
    got: Any, oracle: Callable[..., Any], *args: Any, dtype: Any, scalars: str = "double", **kwargs: Any
) -> Agreement:
    """A subject's result against oracle(*args, **kwargs) under the worst-case bound."""
    return compare_all(got, worst_case(oracle, *args, dtype=dtype, scalars=scalars, **kwargs))


def learning_rate(
    *, peak: float, floor: float, half_turns: float = 1.0, unit: float = DOUBLE, updates: int = 1
) -> float:
    """Bound on the error of a learning rate computed with this unit roundoff, at any step, in any of the variants.

    The angle, at most h = `half_turns` times pi (1 unless the cosine goes on after the horizon), takes a fraction, pi
    and a product: 3 roundings, so the cosine moves by at most 3 h pi u, and is off by the ulps of an elementary
    function. Then 1 + cos, the half, peak - floor, their product and the last sum: one rounding each, on at most
    2 (peak + floor). The form peak ((1 - a) c + a) with a = floor / peak has as many. Warm-up has three roundings.
    Once for the subject, and once for the oracle, in double precision.

    `updates` is above 1 for a subject that may compute each rate from the one before, as PyTorch's schedulers do:
    lr_s - floor = (lr_(s-1) - floor) (1 + cos a_s) / (1 + cos a_(s-1)). The factors telescope, and while the rate falls
    none is above 1, so that the error of each step is at most carried on: as many times the error of one.
    """
    roundings = 3.0 * max(half_turns, 1.0) * math.pi + ELEMENTARY + 5.0
    return 2.0 * (abs(peak) + abs(floor)) * (unit + max(updates, 1) * DOUBLE) * roundings
