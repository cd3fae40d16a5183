"""Arrays as the kernels take them, whatever a caller handed over.

A kernel is compiled anew for each memory layout, integer type and writeability of its arguments. Copied into the one
form that the loop itself uses, they all meet the same machine code.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")


def plain(x: Any) -> Any:
    """An array in C order that can be written to, ids as int64: a copy unless it is one. Anything else as it is.

    Dicts, lists and tuples are rebuilt with plain arrays in them.
    """
    if isinstance(x, np.ndarray):
        return np.require(x, np.int64 if x.dtype.kind in "iu" else None, ["C", "W"])
    if isinstance(x, dict):
        return {name: plain(value) for name, value in x.items()}
    return type(x)(map(plain, x)) if type(x) in (list, tuple) else x


def any_layout(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: the arguments of a function as `plain` makes them."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*plain(args), **plain(kwargs))

    return called
