"""Examples of a prompt and its completion as a batch: which tokens are predicted, and what is padding.

An example is its prompt's tokens, then its completion's. Every completion token is predicted from all that is before it
(the first token of an example is not: nothing is before it), no prompt token is. Rows are padded on the right. What is
predicted and what is real is told by place, never by id: the padding's id may be a token of the text.

    labels      "mask"              (input, target, loss_mask, key_mask): the target is the token after the input
                "-100"              (input, target, key_mask): the target is -100 where nothing is predicted
                "-100 unshifted"    (tokens, labels, key_mask) of the whole examples, for a model that shifts the labels
                                    itself; the label of the first position is never looked at

Sources: Ouyang et al., "Training language models to follow instructions with human feedback", 2022 (loss on the
completion alone); github.com/huggingface/trl/issues/976 (padding told by id).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

IGNORED = -100
Example = tuple[Sequence[int], Sequence[int]]
"""(prompt ids, completion ids), one token at least in both together"""


def collate(
    examples: Sequence[Example], pad_id: int, labels: str = "mask"
) -> tuple[Int[np.ndarray, "B T"] | Bool[np.ndarray, "B T"], ...]:
    """Arrays [B, T] as above. ValueError for no example, or one without a token."""
    rows = [np.array([*prompt, *completion], dtype=np.int64) for prompt, completion in examples]
    if not rows or min(map(len, rows)) == 0:
        raise ValueError("an example has one token at least, a batch one example")
    starts = [len(prompt) for prompt, _ in examples]
    if labels == "-100 unshifted":
        tokens, real = padded(rows, pad_id), padded([np.ones(len(r), dtype=bool) for r in rows], False)
        position = np.arange(tokens.shape[1])
        predicted = real & (position >= np.array(starts)[:, None])
        return tokens, np.where(predicted, tokens, IGNORED), real
    inputs, targets = padded([r[:-1] for r in rows], pad_id), padded([r[1:] for r in rows], pad_id)
    real = padded([np.ones(len(r) - 1, dtype=bool) for r in rows], False)
    predicted = real & (np.arange(inputs.shape[1]) + 1 >= np.array(starts)[:, None])
    if labels == "-100":
        return inputs, np.where(predicted, targets, IGNORED), real
    return inputs, targets, predicted, real


def padded(rows: Sequence[Any], filler: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Rows of unequal length as one array [B, T], filled on the right."""
    whole = np.full((len(rows), max(map(len, rows))), filler, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        whole[place, : len(row)] = row
    return whole
