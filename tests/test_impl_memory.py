"""Kernels' own memory: it begins on a cache line, is given back, and if there is none that is an error."""

import numpy as np
import psutil
import pytest

from impl.kernels import attention, gemm, layer_norm, loss, rotary
from impl.kernels.runtime import memory
from impl.kernels.runtime.compile import fresh

WIDTH, CALLS, GROWTH = 8192, 4000, 2**24
"""A row of float32 is 32 KiB, so what loses one a call grows by 128 MB."""
HEADS, LENGTH = 512, 15
"""Not a whole tile of queries, so that `attention` copies them."""


def rows(count=1):
    return np.zeros((count, WIDTH), np.float32)


def arguments():
    """kernel -> arguments for which it needs at least a row of memory."""
    row, number, some = np.zeros(WIDTH, np.float32), np.float32(1.0), lambda: rows(LENGTH)
    one, seen, starts = np.zeros(1, np.float32), np.ones(LENGTH, bool), np.array([0, LENGTH])
    weights = np.zeros((1, 1, attention.TILE, HEADS * attention.TILE), np.float32)
    square, narrow = np.zeros((512, 512), np.float32), np.zeros((512, 8), np.float32)
    return {
        layer_norm.layer_norm: (rows(), row, row, number, rows(), rows(), one),
        layer_norm.layer_norm_backward: (rows(), rows(), one, row, rows()),
        loss.cross_entropy: (rows(), np.zeros(1, np.int64), seen[:1], number, np.zeros(1), rows()),
        rotary.rotate: (rows(), rows(), rows(), WIDTH // 4, np.zeros(1, np.int64)),
        gemm.gemm: (narrow.T, square, square[:8].copy(), False),  # of both, copies are made
        attention.attention: (some(), some(), some(), starts, seen, number, some(), weights),
        attention.attention_backward: (
            *(some() for _ in range(4)),
            starts,
            weights,
            number,
            some(),
            some(),
            some(),
        ),
    }


@pytest.mark.parametrize(
    ("kernel", "values"),
    [pytest.param(kernel, values, id=kernel.__name__) for kernel, values in arguments().items()],
)
def test_a_kernel_gives_back_what_it_took(kernel, values):
    assert _growth(kernel, values, CALLS if "attention" not in kernel.__name__ else CALLS // 4) < GROWTH


def test_a_kernel_that_does_not_is_seen():
    @fresh
    def forgetful(x):
        memory.scratch(1, x.shape[1], x)[:] = 1.0

    assert _growth(forgetful, (rows(),), CALLS) > GROWTH


def _growth(kernel, values, calls):
    """Of the process, in bytes."""
    kernel(*values)
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(calls):
        kernel(*values)
    return process.memory_info().rss - before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memory_begins_on_a_cache_line(dtype):
    @fresh
    def beginning(x):
        room = memory.scratch(3, 5, x)
        found = room.ctypes.data
        memory.free(room)
        return found

    assert memory.zeros((3, 5), dtype).ctypes.data % memory.LINE == 0
    assert beginning(np.zeros((1, 1), dtype)) % memory.LINE == 0


def test_no_memory_is_an_error():
    @fresh
    def greedy(x, i, j):  # places that LLVM does not know, or it would do without the memory
        room = memory.scratch(2**25, 2**25, x)
        room[i, j] = 1.0
        found = room[j, i]
        memory.free(room)
        return found

    with pytest.raises(MemoryError, match="no memory for a kernel"):
        greedy(rows(), 3, 4)
