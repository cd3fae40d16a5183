"""Whether the answers to two calls are the same: in structure, byte for byte, or within bounds.

A record of a trainer may hold more than the protocol asks for, or less where a field is optional: what is compared is
what the subject's record and the protocol share.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from honestloop.guard import Call, Raised, arrays_in
from reference import bounds
from reference.bounds import Bounded, named_arrays

FIELDS = ("loss", "lr", "grad_norm", "tokens")
"""What the oracle's record of an update holds."""
PARAMETERS = ("E", "W", "b")


def comparable(calls: Iterable[Call]) -> list[Call]:
    """The calls with the results that an oracle knows: of a trainer's records and parameters, those of the protocol."""
    return [replace(call, result=protocol_part(call)) for call in calls]


def protocol_part(call: Call) -> Any:
    """The result of a call without fields of the subject's own."""
    if call.function != "trainer" or isinstance(call.result, Raised):
        return call.result
    if call.method == "train" and isinstance(call.result, (list, tuple)):
        return [kept(record, FIELDS) for record in call.result]
    return kept(call.result, PARAMETERS) if call.method == "parameters" else call.result


def kept(found: Any, names: Iterable[str]) -> Any:
    """These entries of a dict, in this order; anything else as it is."""
    return {name: found[name] for name in names if name in found} if isinstance(found, dict) else found


def float_arrays(tree: Any) -> list[np.ndarray[Any, Any]]:
    """The float arrays in a structure of arguments or results."""
    return [x for x in arrays_in(tree) if x.dtype.kind == "f"]


def same_structure(call: Call, again: Call) -> bool:
    """Equal but for the values of numbers: side effects, structure, shapes, dtypes, text; both raised or neither.

    A field that the subject's record lacks is not asked for.
    """
    a, b = call.result, again.result
    if call.effects != again.effects:
        return False
    if isinstance(a, Raised) or isinstance(b, Raised):
        return isinstance(a, Raised) and isinstance(b, Raised)
    left, right = dict(named_arrays(a)), dict(named_arrays(b))
    if call.function == "trainer" and call.method == "train":
        if len(a) != len(b):
            return False
        right = {name: x for name, x in right.items() if name in left}
    return left.keys() == right.keys() and all(same_kind(x, right[name]) for name, x in left.items())


def same_kind(x: Any, y: Any) -> bool:
    """Whether two leaves are equal but for the values of numbers: type, shape, places of NaN, text."""
    if not (is_number(x) and is_number(y)):
        return type(x) is type(y) and (not isinstance(x, (str, bytes)) or x == y)
    if is_array(x) and is_array(y) and kind(x) != kind(y):
        return False
    if isinstance(x, np.generic) != isinstance(y, np.generic) and kind(np.asarray(x)) == "integer":
        return False  # json writes Python's integers and refuses NumPy's
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return x.shape == y.shape and np.array_equal(np.isnan(x), np.isnan(y))


def same_numbers(a: Any, b: Any) -> bool:
    """Whether every number is equal after a cast to the dtype of the first."""
    right = {} if isinstance(a, Raised) else dict(named_arrays(b))
    return isinstance(a, Raised) or all(
        np.array_equal(x, np.asarray(right[name]).astype(np.asarray(x).dtype), equal_nan=is_float(x))
        for name, x in named_arrays(a)
        if is_number(x)
    )


def within(got: Any, allowed: Any) -> bool:
    """Whether every float is within its bound; integers and booleans must be equal."""
    if isinstance(got, Raised):
        return True
    expected = dict(named_arrays(allowed))
    return all(within_leaf(x, expected[name]) for name, x in named_arrays(got) if is_number(x))


def within_leaf(x: Any, expected: Any) -> bool:
    """The same for one array or number."""
    if not isinstance(expected, Bounded):
        return np.array_equal(x, np.asarray(expected), equal_nan=is_float(x))
    result = bounds.compare(
        np.where(np.isnan(expected.value), expected.value, x), expected.value, expected.bound
    )
    nans = np.isnan(np.asarray(expected.value))
    return not result.silent and bool(result.within or nans.all())


def is_number(x: Any) -> bool:
    """Whether it is a number, a boolean, or an array of either."""
    return isinstance(x, (bool, int, float, np.generic, np.ndarray)) and np.asarray(x).dtype.kind in "biuf"


def is_array(x: Any) -> bool:
    """Whether it is an array with at least one axis."""
    return isinstance(x, np.ndarray) and x.ndim > 0


def kind(x: np.ndarray[Any, Any]) -> str:
    """The float dtype by name; "integer" for all integer dtypes, whose width no rule asks for; else the kind."""
    return x.dtype.name if x.dtype.kind == "f" else "integer" if x.dtype.kind in "iu" else x.dtype.kind


def is_float(x: Any) -> bool:
    """Whether it is a float or an array of floats."""
    return bool(np.asarray(x).dtype.kind == "f")
