"""A few lines of Python that repeat a failure outside pytest."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from honestloop import protocol
from honestloop.guard import Call, Raised

LARGEST = 48
"""The most entries that an array may have to be written out in a snippet."""


def snippet(module: str | None, calls: Sequence[Call]) -> tuple[str, ...]:
    """Lines that repeat the last call of the failing example, or all calls of the object that it is a method of.

    One line that says so where an array has more than `LARGEST` entries.
    """
    last = calls[-1]
    shown = [c for c in calls if c.function == last.function] if last.target is not None else [last]
    try:
        lines = [line for call in shown for line in statement(call)]
    except TooLarge:
        return ("(the arguments are too large to print; the line above repeats the failure)",)
    head = ["import numpy as np", "from numpy import array, float32, float64"]
    if module is None:
        return (
            *head,
            "me = ...  # an object with the functions that were handed to honestloop.check()",
            *lines,
        )
    found = f"from {protocol.__name__} import {protocol.find_module.__name__}"
    return (*head, found, f"me = find_module({module!r})", *lines)


class TooLarge(Exception):
    """An array has more than `LARGEST` entries."""


def statement(call: Call) -> tuple[str, ...]:
    """One call as Python source, and a comment that says what it returned or raised."""
    arguments = ", ".join([*map(source, call.args), *(f"{k}={source(v)}" for k, v in call.kwargs.items())])
    if call.method is None and call.target is not None:
        return (f"object_{call.target} = me.{call.function}({arguments})",)
    owner = "me" if call.method is None else f"object_{call.target}"
    try:
        outcome = f"raised {call.result.kind}" if isinstance(call.result, Raised) else source(call.result)
    except TooLarge:
        outcome = "(large)"
    expression = call.method if call.read else f"{call.method or call.function}({arguments})"
    return (f"{owner}.{expression}", f"# -> {outcome}")


def source(x: Any) -> str:
    """A value as Python source. TooLarge for a large array."""
    if isinstance(x, np.ndarray):
        if x.size > LARGEST:
            raise TooLarge
        kind = f", dtype=np.{x.dtype.name}" if x.dtype.name not in ("float64", "int64", "bool") else ""
        with np.printoptions(threshold=LARGEST + 1):
            return f"np.array({x.tolist()!r}{kind})".replace("nan", "np.nan").replace("inf", "np.inf")
    if isinstance(x, (tuple, list)):
        parts = ", ".join(map(source, x))
        return f"[{parts}]" if isinstance(x, list) else f"({parts}{',' if len(x) == 1 else ''})"
    if isinstance(x, dict):
        return "{" + ", ".join(f"{key!r}: {source(value)}" for key, value in x.items()) + "}"
    return repr(x.item() if isinstance(x, np.generic) else x)
