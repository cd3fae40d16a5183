"""A few sentences of the validation split as the finished model translates them."""

from collections.abc import Iterator
from typing import Any

from impl.model.minigpt import MiniGPT
from impl.model.translate import translate
from impl.run.directory import Run

CELLS = 4
"""Rows of the split, evenly spread; each is translated both ways."""


def sentences(model: MiniGPT, run: Run) -> Iterator[dict[str, Any]]:
    """One object a sentence: the row, the direction, the source, what the model said and what the data says."""
    rows = run.corpus.splits["val"]
    for row in rows[:: max(1, len(rows) // CELLS)][:CELLS]:
        for to, source, expected in (("es", row.en, row.es), ("en", row.es, row.en)):
            said = translate(model, run.tokenizer, source, to)
            yield {"row": row.id, "to": to, "source": source, "said": said, "expected": expected}
