"""The assertions of all properties, and the one grammar of their messages.

Numbers are compared under a derived bound (`agrees`, `agrees_deep`, `within`) or exactly (`same_bytes`); there is no
other comparison of floats in a property. Every assertion names the rule it checks.
"""

import functools
import math
import unittest
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from hypothesis import reject

from properties.property_record import current
from reference import bounds
from reference.rules import RULES


class NotOfferedError(unittest.SkipTest):
    """The rule does not speak of a subject with the conventions that this one declares."""


class Refusal(AssertionError):
    """A rule is broken: what was found, and all that helps to mend it."""

    def __init__(
        self, rule: str, found: tuple[str, ...], ratio: float = math.inf, function: str = ""
    ) -> None:
        super().__init__()
        self.rule, self.found, self.ratio = rule, found, ratio
        self.function = function
        """The subject's function that broke a rule that holds for every function."""
        self.behaves_like: tuple[str, ...] = ()
        self.snippet: tuple[str, ...] = ()
        self.reproduce = current().reproduce

    def __str__(self) -> str:
        law = RULES[self.rule]
        lines = [f"{law.id}  {law.statement}", *(f"  {line}" for line in self.found)]
        lines += [f"  behaves like: {mistake}" for mistake in self.behaves_like]
        lines += [f"  why it matters: {law.why}", f"  look for: {law.hint}", f"  rule: {law.address}"]
        lines += [f"  reproduce: {self.reproduce}"]
        if self.snippet:
            lines += ["  snippet:", *(f"    {line}" for line in self.snippet)]
        return "\n".join(lines)


def agrees(rule: str, got: Any, oracle: Callable[..., Any], *args: Any, dtype: Any, **kwargs: Any) -> None:
    """`got` is what the oracle gives, within the bound that holds for every correct subject.

    `scalars` among the keywords is the subject's convention of that name, for `bounds.run`.
    """
    __tracebackhide__ = True
    settle(rule, bounds.check(got, oracle, *args, dtype=dtype, **kwargs), dtype)


def within(rule: str, got: Any, expected: Any, dtype: Any) -> None:
    """`got` is within bounds got elsewhere (`bounds.Bounded`, in the structure of the result)."""
    __tracebackhide__ = True
    settle(rule, bounds.compare_all(got, expected), dtype)


def within_in_each_dtype(rule: str, subject: Any, call: Callable[[Any], Any], simulated: Any) -> None:
    """call(dtype) is within the probable bound of a simulation, which serves every precision the subject offers."""
    __tracebackhide__ = True
    for dtype in subject.conventions.float_types:
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
    record = current()
    record.asserted.add(rule)
    key = (rule, np.dtype(dtype).name)
    record.margins[key] = max(record.margins.get(key, 0.0), agreement.ratio)
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
        ratio=agreement.ratio,
    )


def same_bytes(rule: str, got: Any, expected: Any, what: str) -> None:
    """Equal shapes, dtypes and bits (a NaN equals the same NaN, -0.0 is not 0.0)."""
    __tracebackhide__ = True
    current().asserted.add(rule)
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


def unsigned(x: Any) -> Any:
    """x with 0 for every -0: a product with a mask gives either, and both are 0."""
    return x + np.zeros((), dtype=np.asarray(x).dtype)


def not_offered(why: str) -> NoReturn:
    """This rule does not speak of a subject with such conventions."""
    raise NotOfferedError(why)


def spare(rule: str) -> None:
    """This rule of several does not speak of the subject; the others of the property are asserted."""
    current().spared.add(rule)


def holds(rule: str, condition: Any, what: str, function: str = "") -> None:
    """A statement that is true or false; `what` says what was found."""
    __tracebackhide__ = True
    current().asserted.add(rule)
    if not condition:
        refuse(rule, what, function=function)


def refuse(rule: str, *found: str, ratio: float = math.inf, function: str = "") -> NoReturn:
    """Fail with the message every failure has."""
    __tracebackhide__ = True
    raise Refusal(rule, found, ratio, function)
