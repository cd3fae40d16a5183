"""How a batch is made of sequences: shift by one token, padding, loss mask and key mask."""

import numpy as np

from fixtures.explicit_cases import DOCUMENTS
from fixtures.strategies import sequences
from properties.assertions import holds, same_bytes
from properties.checks import checks
from reference import data

ALWAYS = [{"rows": rows} for rows in DOCUMENTS]


@checks("MASK-01", rows=sequences(), always=ALWAYS)
def test_the_target_is_the_next_token(subject, rows):
    inputs, targets, *_ = subject.make_batch(rows)
    for row, sequence in enumerate(rows):
        n = len(sequence) - 1
        same_bytes("MASK-01", inputs[row, :n], np.array(sequence[:-1], dtype=np.int64), f"input of row {row}")
        same_bytes(
            "MASK-01", targets[row, :n], np.array(sequence[1:], dtype=np.int64), f"target of row {row}"
        )


@checks("MASK-02", rows=sequences(), always=ALWAYS)
def test_masks_mark_real_positions_whatever_the_token(subject, rows):
    _, _, loss_mask, key_mask = subject.make_batch(rows)
    expected = data.make_batch(rows)[2]
    same_bytes("MASK-02", loss_mask, expected, "loss mask")
    same_bytes("MASK-02", key_mask, expected, "key mask")


@checks("MASK-03", rows=sequences(), always=ALWAYS)
def test_rows_are_padded_on_the_right_to_the_longest(subject, rows):
    inputs, targets, *_ = subject.make_batch(rows)
    longest = max(len(s) for s in rows) - 1
    holds("MASK-03", inputs.shape == (len(rows), longest), f"shape {inputs.shape}, longest input {longest}")
    padding = ~data.make_batch(rows)[2]
    holds("MASK-03", not inputs[padding].any(), "padding of the input is not <pad>")
    holds("MASK-03", not targets[padding].any(), "padding of the target is not <pad>")
