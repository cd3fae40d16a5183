"""Whether a tensor of single precision holds numbers of 16 bits: a state that was rounded on its way.

A bfloat16 has 8 significant bits, a float16 has 11, a float32 has 24. Of numbers that were computed in float32 one in
2^16 (2^13) ends in so many zeros by chance; that n of them do has a chance of 2^(-16 n) (2^(-13 n)). Values that are
exact in every format, such as 0 and 1, tell nothing and are left out.
"""

import numpy as np
from jaxtyping import Shaped

FEWEST = 8
"""Numbers that tell something, below which nothing is said."""


def low_precision(x: Shaped[np.ndarray, "..."]) -> str:
    """What every number of a tensor, of any shape, is: "bfloat16" or "float16"; "" if neither, or if too few tell."""
    if x.dtype in (np.float16, np.dtype("V2")):
        return str(x.dtype)
    if x.dtype == np.float64:
        single = x.astype(np.float32, copy=False)
        if not np.array_equal(single, x):
            return ""
        x = single
    telling = np.ascontiguousarray(x[(x != 0) & (np.abs(x) != 1) & np.isfinite(x)], np.float32)
    if telling.size < FEWEST:
        return ""
    if not (telling.view(np.uint32) & 0xFFFF).any():
        return "bfloat16"
    with np.errstate(over="ignore"):
        return "float16" if bool((telling.astype(np.float16) == telling).all()) else ""
