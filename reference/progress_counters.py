"""Steps, tokens and epochs of a run: three counts that are not each other.

    step    updates made
    tokens  predicted tokens of the windows of these updates; what is dropped was not trained on
    epoch   how much of the data was given out: whole passes, and the share of the present one in tokens

A window is `accumulate` micro-batches. Micro-batches left over at the end of an epoch are an update ("update"), begin
the window that the next epoch goes on with ("carry"), or are dropped ("drop"). A window with nothing to predict is an
update ("update") or is left out ("skip").

Source: definition; nanoGPT counts iterations, llm.c#c6680a2 and nanochat#775 are loops that took one for another.
"""

from collections.abc import Sequence
from fractions import Fraction


def progress_counters(
    epochs: Sequence[Sequence[int]],
    accumulate: int,
    *,
    leftover: str = "update",
    empty_window: str = "update",
) -> list[tuple[int, int, float]]:
    """(step, tokens, epoch) after each update.

    `epochs`: the number of predicted tokens of each micro-batch in order, for each epoch; every epoch has as many
    tokens in all, at least one.
    """
    records: list[tuple[int, int, float]] = []
    window: list[int] = []
    seen = 0
    for number, micro_batches in enumerate(epochs):
        total, given = sum(micro_batches), 0
        for place, count in enumerate(micro_batches, start=1):
            window.append(count)
            given += count
            ends = place == len(micro_batches)
            if len(window) == accumulate or (ends and leftover == "update"):
                if sum(window) or empty_window == "update":
                    seen += sum(window)
                    records.append((len(records) + 1, seen, float(number + Fraction(given, total))))
                window = []
        window = window if leftover == "carry" else []
    return records
