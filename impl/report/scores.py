"""What a model knows, in more than one number: bits per byte, by tense and person, and cells translated exactly.

The bytes of a token are those of its text, in which a word begins with a space; special tokens have none, and neither
their losses nor bytes are counted.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from impl.bits_per_byte import bits, target_bytes, token_bytes
from impl.data.corpus import Row
from impl.data.iterator import Batch, make_batch
from impl.data.tokenizer import BOUNDARY, SPECIAL_TOKENS, Tokenizer
from impl.evaluate import evaluate
from impl.model.minigpt import MiniGPT
from impl.model.translate import translate_all
from impl.run.directory import Run

Array = np.ndarray[Any, np.dtype[Any]]
GROUPS: dict[str, Callable[[Row], str]] = {
    "tense": lambda row: row.tense,
    "person": lambda row: row.person,
}
"""Name of a breakdown -> the group that a row is in."""


def bytes_of_tokens(tokenizer: Tokenizer) -> Array:
    """The bytes of each token by id, int64 [V]."""
    texts = [text.replace(BOUNDARY, " ").encode() for text in tokenizer.vocabulary]
    return np.array(token_bytes(texts, range(len(SPECIAL_TOKENS))))


def nats_and_bytes(model: MiniGPT, run: Run, sequences: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Nats and bytes of the targets that stand for bytes."""
    table, size = bytes_of_tokens(run.tokenizer), run.config.batch_size
    nats, count = 0.0, 0
    for start in range(0, len(sequences), size):
        batch = make_batch(sequences[start : start + size])
        counted = np.where(batch.loss_mask, target_bytes(batch.target, table), 0)
        with_bytes = Batch(batch.input, batch.target, counted > 0, batch.key_mask)
        nats, count = model.nll(with_bytes, nats), count + int(counted.sum())
    return nats, count


def of_split(model: MiniGPT, run: Run, rows: Sequence[int], split: str) -> dict[str, Any]:
    """Perplexity and bits per byte of some rows of a split, given by number; each row is two sequences."""
    sequences = [run.sequences[split][2 * row + direction] for row in rows for direction in (0, 1)]
    score = evaluate(model, sequences, run.config.batch_size)
    nats, count = nats_and_bytes(model, run, sequences)
    return {
        "rows": len(rows),
        "tokens": score.tokens,
        "ppl": score.perplexity,
        "bytes": count,
        "bits_per_byte": bits(nats, count),
    }


def exact_match(model: MiniGPT, run: Run, rows: Sequence[Row]) -> dict[str, list[bool]]:
    """Language -> for each row, whether greedy decoding gives the text of the corpus, letter by letter."""
    asked = {"es": [(row.en, row.es) for row in rows], "en": [(row.es, row.en) for row in rows]}
    said = {
        to: translate_all(model, run.tokenizer, [source for source, _ in pairs], to)
        for to, pairs in asked.items()
    }
    return {
        to: [text == expected for text, (_, expected) in zip(said[to], pairs, strict=True)]
        for to, pairs in asked.items()
    }


def scores(model: MiniGPT, run: Run) -> dict[str, Any]:
    """Every split as a whole; validation by tense and person as well, with the share of cells that are exact."""
    rows = run.corpus.splits["val"]
    matched = exact_match(model, run, rows)
    splits = {
        name: of_split(model, run, range(len(split)), name) for name, split in run.corpus.splits.items()
    }
    return {
        "splits": splits,
        "exact_match": {"rows": len(rows), **shares(matched, range(len(rows)))},
        "by": {name: dict(breakdown(model, run, group, matched)) for name, group in GROUPS.items()},
    }


def breakdown(
    model: MiniGPT, run: Run, group: Callable[[Row], str], matched: dict[str, list[bool]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(group, its scores) of the validation rows, in the order in which groups appear."""
    members: dict[str, list[int]] = {}
    for number, row in enumerate(run.corpus.splits["val"]):
        members.setdefault(group(row), []).append(number)
    for name, rows in members.items():
        yield name, of_split(model, run, rows, "val") | {"exact_match": shares(matched, rows)}


def shares(matched: dict[str, list[bool]], rows: Sequence[int]) -> dict[str, float]:
    """Language -> the share of these rows that are exact."""
    return {to: sum(right[row] for row in rows) / len(rows) for to, right in matched.items()}
