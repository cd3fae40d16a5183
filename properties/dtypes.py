"""Both precisions a subject is graded in."""

from typing import Any

import numpy as np
import pytest

from reference.bounds import map_arrays

in_both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def to(dtype: Any, *arguments: Any) -> Any:
    """The arguments with every float array in this dtype: one as it is, several as a tuple."""

    def cast(x: Any) -> Any:
        return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x

    converted = map_arrays(cast, arguments)
    return converted[0] if len(arguments) == 1 else converted
