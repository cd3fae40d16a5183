"""The same arguments in either precision."""

from typing import Any

import numpy as np

from reference.bounds import map_arrays


def to(dtype: Any, *arguments: Any) -> Any:
    """The arguments with every float array in this dtype: one as it is, several as a tuple."""

    def cast(x: Any) -> Any:
        return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x

    converted = map_arrays(cast, arguments)
    return converted[0] if len(arguments) == 1 else converted


def either(subject: Any, number: int) -> Any:
    """One of the float types the subject is graded in, by a drawn number: for properties whose result is exact."""
    kinds = subject.conventions.float_types
    return kinds[number % len(kinds)]
