"""The assertions of all properties, and the one grammar of their messages.

Numbers are compared under a derived bound (`agrees`, `agrees_deep`, `within`) or exactly (`same_bytes`); there is no
other comparison of floats in a property. Every assertion names the rule it checks.
"""

import functools
import math
import os
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from hypothesis import reject

from reference import bounds
from reference.rules import RULES

subject_name = "impl"
"""Set from --impl, for the line that says how to reproduce a failure."""

margins: dict[tuple[str, str], float] = {}
"""Largest error / bound seen, by (rule, dtype)."""


def agrees(rule: str, got: Any, oracle: Callable[..., Any], *args: Any, dtype: Any, **kwargs: Any) -> None:
    """`got` is what the oracle gives, within the bound that holds for every correct subject."""
    __tracebackhide__ = True
    settle(rule, bounds.check(got, oracle, *args, dtype=dtype, **kwargs), dtype)


def within(rule: str, got: Any, expected: Any, dtype: Any) -> None:
    """`got` is within bounds got elsewhere (`bounds.Bounded`, in the structure of the result)."""
    __tracebackhide__ = True
    settle(rule, bounds.compare_all(got, expected), dtype)


def within_in_both_dtypes(rule: str, call: Callable[[Any], Any], simulated: Any) -> None:
    """call(dtype) is within the probable bound of a simulation, which serves both precisions."""
    __tracebackhide__ = True
    for dtype in (np.float32, np.float64):
        within(rule, call(dtype), bounds.map_arrays(functools.partial(_bounded, dtype), simulated), dtype)


def _bounded(dtype: Any, simulated: bounds.Simulated) -> bounds.Bounded:
    return simulated.bounded(dtype)


def simulate(oracle: Callable[..., Any], *args: Any) -> Any:
    """`bounds.simulate` with as few draws as the share of these bounds that is ever used, a few hundredths, allows."""
    return bounds.simulate(oracle, *args, draws=3)


def settle(rule: str, agreement: bounds.Agreement, dtype: Any) -> None:
    """Note the margin; fail when it is used up. An example on which the bound says nothing does not count."""
    __tracebackhide__ = True
    if agreement.silent:
        reject()
    key = (rule, np.dtype(dtype).name)
    margins[key] = max(margins.get(key, 0.0), agreement.ratio)
    if agreement.within:
        return
    if math.isnan(agreement.expected):
        refuse(rule, f"got {agreement.where}")
    error = abs(agreement.got - agreement.expected)
    refuse(
        rule,
        f"got {agreement.got!r}, expected {agreement.expected!r} ({np.dtype(dtype).name}); "
        f"error {error:.1e} = {error / agreement.bound if agreement.bound else math.inf:.1e} x the derived bound",
        f"first difference: {agreement.where or 'the value itself'}; "
        f"largest error anywhere: {agreement.ratio:.1e} x its bound",
    )


def same_bytes(rule: str, got: Any, expected: Any, what: str) -> None:
    """Equal shapes, dtypes and bits (a NaN equals the same NaN, -0.0 is not 0.0)."""
    __tracebackhide__ = True
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape or got.dtype != expected.dtype:
        refuse(rule, f"{what}: got {got.dtype}{got.shape}, expected {expected.dtype}{expected.shape}")
    if got.tobytes() == expected.tobytes():
        return
    bits = f"u{got.dtype.itemsize}"
    differs = np.flatnonzero(got.reshape(-1).view(bits) != expected.reshape(-1).view(bits))
    first = int(differs[0])
    index = [int(i) for i in np.unravel_index(first, got.shape)]
    refuse(
        rule,
        f"{what}: got {got.flat[first].item()!r}, expected {expected.flat[first].item()!r}, bit for bit",
        f"first difference: {index or 'the value itself'}; {differs.size} of {got.size} entries differ",
    )


def holds(rule: str, condition: Any, what: str) -> None:
    """A statement that is true or false; `what` says what was found."""
    __tracebackhide__ = True
    if not condition:
        refuse(rule, what)


def refuse(rule: str, *found: str) -> NoReturn:
    """Fail with the message every failure has."""
    __tracebackhide__ = True
    law = RULES[rule]
    test = os.environ.get("PYTEST_CURRENT_TEST", "properties").split(" ")[0]
    lines = [
        f"{law.id}  {law.statement}",
        *(f"  {line}" for line in found),
        f"  why it matters: {law.why}",
        f"  look for: {law.hint}",
        f"  source: {law.source}",
        f'  reproduce: pytest "{test}" --impl {subject_name}',
    ]
    raise AssertionError("\n".join(lines))
