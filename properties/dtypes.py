"""Arguments in float32 and float64."""

from typing import Any

import numpy as np

from reference.bounds import map_arrays


def to(dtype: Any, *arguments: Any) -> Any:
    """The arguments with every float64 array cast to this dtype: one argument as it is, several as a tuple."""

    def cast(x: Any) -> Any:
        return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x

    converted = map_arrays(cast, arguments)
    return converted[0] if len(arguments) == 1 else converted


def either(subject: Any, number: int) -> Any:
    """One of the dtypes that the subject is graded in, chosen by a drawn number; for properties that compare bytes."""
    kinds = subject.conventions.float_types
    return kinds[number % len(kinds)]
