"""Packed rows: no padding, nothing after the last target in the loss mask, whole tiles of `gemm`."""

import numpy as np

from impl.kernels.gemm import TILE_ROWS
from impl.kernels.packing import BatchArrays, PackedRows, pack

as_python = getattr(pack, "py_func", pack)  # numba cannot return views to Python
CONTEXT, LENGTHS, FIRST = 9, (3, 0, 5, 1), 4


def _rows(start, stop):
    length = max(LENGTHS)
    tokens = np.arange(len(LENGTHS) * length).reshape(-1, length)
    counted = np.arange(length) < np.array(LENGTHS)[:, None]
    counted[2, 1] = False  # one that does not count, before others that do
    ints, bools = (np.full((n, 16), 1, kind) for n, kind in ((4, np.int64), (2, np.bool_)))
    buffers = PackedRows(np.full(9, -1), ints[0], ints[1], bools[0], bools[1], ints[2], ints[3])
    batch = BatchArrays(tokens, tokens + 100, counted, np.ones_like(counted), FIRST)
    return tokens, as_python(batch, start, stop, CONTEXT, buffers)


def test_sequences_follow_each_other_without_padding():
    tokens, rows = _rows(0, 4)
    assert rows.starts.tolist() == [0, 3, 3, 8, 9]
    wanted = np.concatenate([row[:length] for row, length in zip(tokens, LENGTHS, strict=True)])
    assert rows.input[:9].tolist() == wanted.tolist()
    assert rows.target[:9].tolist() == (wanted + 100).tolist()
    assert rows.position[:9].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0]
    assert rows.loss_mask[:9].tolist() == [True, True, True, True, False, True, True, True, True]


def test_the_last_rows_belong_to_no_sequence():
    rows = _rows(0, 4)[1]
    assert rows.input.size == 2 * TILE_ROWS
    assert not any(x[9:].any() for x in rows[1:])


def test_a_mask_index_does_not_depend_on_where_a_work_item_begins():
    """Dropout draws by it."""
    whole, part = _rows(0, 4)[1], _rows(2, 4)[1]
    assert part.starts.tolist() == [0, 5, 6]
    assert part.mask_index[:6].tolist() == whole.mask_index[3:9].tolist()
    assert part.mask_index[:6].tolist() == [(FIRST + 2) * CONTEXT + t for t in range(5)] + [
        (FIRST + 3) * CONTEXT
    ]


def test_a_work_item_may_have_no_rows():
    rows = _rows(1, 2)[1]
    assert rows.input.size == 0
    assert rows.starts.tolist() == [0, 0]
