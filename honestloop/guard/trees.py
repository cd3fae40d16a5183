"""Structures of arguments and results: the arrays in them, copies, and whether two are the same, byte for byte."""

import contextlib
import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

PLAIN = frozenset({bool, int, float, str, bytes, type(None)})
"""Types that are immutable and contain nothing else."""


def all_plain(items: list[Any] | tuple[Any, ...]) -> bool:
    """Whether nothing in it contains anything: long lists of numbers or of texts are not searched item by item."""
    return PLAIN.issuperset(map(type, items))


def shares_memory(result: Any, others: Any) -> bool:
    """Whether an array of the result may be a view of one of the others."""
    returned = arrays_in(result)
    arrays = arrays_in(others) if returned else []
    if all(x.flags.owndata for x in returned) and all(y.flags.owndata for y in arrays):
        return not {id(x) for x in returned}.isdisjoint(id(y) for y in arrays)
    return any(np.may_share_memory(x, y) for x in returned for y in arrays)


def arrays_in(tree: Any) -> list[np.ndarray[Any, Any]]:
    """The NumPy arrays, of any shape, in a structure of arguments or results."""
    if isinstance(tree, np.ndarray):
        return [tree]
    if type(tree) in PLAIN:
        return []
    if isinstance(tree, (tuple, list)):
        return [] if all_plain(tree) else [x for item in tree for x in arrays_in(item)]
    if isinstance(tree, Mapping):
        return [x for item in tree.values() for x in arrays_in(item)]
    return []


def copied(tree: Any) -> Any:
    """A copy of everything in a structure of arguments or results."""
    if isinstance(tree, np.ndarray):
        return tree.copy()
    if type(tree) in PLAIN or isinstance(tree, np.generic):
        return tree
    if type(tree) is tuple:
        return tree if all_plain(tree) else tuple(copied(item) for item in tree)
    if type(tree) is list:
        return tree[:] if all_plain(tree) else [copied(item) for item in tree]
    if type(tree) is dict:
        return {key: copied(item) for key, item in tree.items()}
    with contextlib.suppress(Exception):
        return copy.deepcopy(tree)
    return tree


def same(a: Any, b: Any) -> bool:
    """Whether two structures of arguments hold the same bytes."""
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        alike = type(a) is type(b) and a.shape == b.shape and a.dtype == b.dtype
        return alike and a.tobytes() == b.tobytes()
    if isinstance(a, (tuple, list)):
        if type(a) is type(b) and all_plain(a) and all_plain(b) and a == b:
            return True
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if dataclasses.is_dataclass(a) and type(a) is type(b):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if hasattr(a, "__dict__") and hasattr(b, "__dict__"):
        return same(vars(a), vars(b))
    try:
        return bool(a == b) or bool(a != a and b != b)
    except KeyboardInterrupt:
        raise
    except BaseException:  # what cannot be compared says nothing
        return True
