"""Probes of any model's `logits`: pairs that differ in the future alone, and pairs that differ in the padding alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gates.errors import GateError
from gates.subject.asked_model import AskedModel

PAIRS = 8


@dataclass(frozen=True)
class ProbeAnswers:
    """Logits [.., T, V] of the probes. Of pair i, the positions below `cuts[i]` must agree."""

    cuts: list[int]
    whole: np.ndarray
    """A piece of the text."""
    changed: np.ndarray
    """The same, other tokens from the cut on."""
    padded: np.ndarray
    """The same up to the cut, and outside the key mask what stood in the text."""
    repadded: np.ndarray
    """The same, other tokens outside the key mask."""
    alone: list[np.ndarray]
    """Up to the cut, with nothing behind it."""


def probe(
    model: AskedModel, run: Path, sequences: Sequence[Sequence[int]], context: int, chance: random.Random
) -> ProbeAnswers:
    """Have the last checkpoint of a run answer. GateError if it was not asked for other logits before."""
    if model.vocab_size is None:
        raise GateError("nothing is known of the vocabulary yet")
    stream = [token for sequence in sequences for token in sequence]
    length = min(context, len(stream))
    if length < 2 or model.vocab_size < 2:
        raise GateError(f"a text of {len(stream)} tokens and a context of {context} are too short to probe")
    starts = [chance.randrange(len(stream) - length + 1) for _ in range(PAIRS)]
    text = np.array([stream[start : start + length] for start in starts], np.int64)
    cuts = [chance.randrange(1, length) for _ in range(PAIRS)]
    early = np.arange(length) < np.array(cuts)[:, None]
    drawn = [[chance.randrange(1, model.vocab_size) for _ in range(length)] for _ in range(PAIRS)]
    other = np.where(early, text, (text + np.array(drawn)) % model.vocab_size)
    everything = np.ones_like(early)
    tokens, masks = (
        np.concatenate([text, other, text, other]),
        np.concatenate([everything, everything, early, early]),
    )
    whole, changed, padded, repadded = np.split(model.logits(run, tokens, masks), 4)
    alone = [model.logits(run, text[i : i + 1, : cuts[i]], early[i : i + 1, : cuts[i]])[0] for i in range(2)]
    return ProbeAnswers(cuts, whole, changed, padded, repadded, alone)
