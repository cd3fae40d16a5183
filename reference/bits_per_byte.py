"""Bits per byte: what a text costs, counted in a unit that no tokenizer chooses.

    bits per byte = sum of nll over the counted targets / (ln 2 * sum of their bytes)

A target counts if it is a token (an id from 0 on; negative ids are ignored) that stands for bytes: special tokens stand
for none. Both sums run over the same targets, over all batches; a mean of quotients would weigh short texts more.

A token's bytes are those that it stands for. Counted by way of a decoded text they are too many: a part of a character
decodes to U+FFFD, which has three bytes in UTF-8, whatever the part has.

Sources: Gao et al., "The Pile", 2020, section 3.1; github.com/karpathy/nanochat, commit 2ce972a (bytes by way of text).
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

Batch = tuple[Float[np.ndarray, "B T"], Int[np.ndarray, "B T"]]
"""(nll in nats, targets)."""


def token_bytes(vocabulary: Sequence[bytes], special: Iterable[int]) -> list[int]:
    """The number of bytes of each token, by id; 0 for the special ones."""
    without = set(special)
    return [0 if token in without else len(text) for token, text in enumerate(vocabulary)]


def within_budget(batches: Iterable[Batch], budget: int | None) -> Iterator[Batch]:
    """The batches from the first on, as long as the tokens of all of them fit into the budget; all without one."""
    read = 0
    for nll, targets in batches:
        read += targets.size
        if budget is not None and read > budget:
            return
        yield nll, targets


def bits_per_byte(
    batches: Iterable[Batch],
    token_bytes: Int[np.ndarray, "V"],
    budget: int | None = None,
    empty: str = "inf",
) -> Float[np.ndarray, ""] | float:
    """Bits per byte of all batches within the budget, in tokens.

    Without any byte: infinity, NaN, or ValueError, as `empty` says ("inf", "nan", "raises").
    """
    nats: Float[np.ndarray, ""] | float = 0.0
    count = 0
    for nll, targets in within_budget(batches, budget):
        size = np.where(targets >= 0, token_bytes[np.maximum(targets, 0)], 0)
        nats = nats + np.where(size > 0, nll, 0.0).sum()
        count += int(size.sum())
    if count:
        return nats / (math.log(2.0) * count)
    if empty == "raises":
        raise ValueError("bits per byte of no bytes")
    return math.nan if empty == "nan" else math.inf
