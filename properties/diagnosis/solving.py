"""From a number that was solved for, and carries roundoff, to the numbers that it may stand for."""

from typing import Any

import numpy as np

NEAR = (1e-7, 1e-3)
"""Relative: of what was solved in double precision, and in single. Only guesses: the bounds decide which is right."""


def decimals(solved: float) -> list[float]:
    """The shortest decimal near it and the nearest 1 / n, else itself; then the shortest decimal less near.

    None for 0 and for what is not finite.
    """
    if not np.isfinite(solved) or solved == 0.0:
        return []
    found: list[float] = []
    for near in NEAR:
        short = (float(f"{solved:.{digits}e}") for digits in range(6))
        found += [x for x in short if abs(x - solved) <= near * abs(solved)][:1]
        n = round(1.0 / solved) if abs(solved) > 1e-9 else 0
        if n and abs(1.0 / n - solved) <= near * abs(solved):
            found.append(1.0 / n)
    return list(dict.fromkeys(found or [solved]))


def factors(solved: float) -> list[float]:
    """The same for a factor: 1 explains nothing."""
    return [x for x in decimals(solved) if abs(x - 1.0) > NEAR[0]]


def middle(x: Any) -> float:
    """The median of the finite entries. ValueError for none."""
    finite = x[np.isfinite(x)]
    if not finite.size:
        raise ValueError("nothing tells")
    return float(np.median(finite))
