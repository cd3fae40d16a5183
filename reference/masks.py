"""Which position may attend to which.

Position i attends to position j when j <= i (causality) and j holds a real token (no padding).
"""

import numpy as np
from jaxtyping import Bool


def attention_mask(key_mask: Bool[np.ndarray, "B T"]) -> Bool[np.ndarray, "B 1 T T"]:
    """Entry (b, 0, i, j) is true when position i of row b may attend to position j."""
    length = key_mask.shape[1]
    causal = np.tril(np.ones((length, length), dtype=bool))
    return causal & key_mask[:, None, None, :]
