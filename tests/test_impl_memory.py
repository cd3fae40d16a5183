"""Memory that kernels allocate: it begins on a cache line, it is freed, and running out of it is an error."""

import numpy as np
import psutil
import pytest

from impl.kernels import attention, gemm, layer_norm, loss, rotary
from impl.kernels.runtime import memory
from impl.kernels.runtime.compile import uncached

WIDTH, CALLS, GROWTH = 8192, 4000, 2**24
"""A row of float32 is 32 KiB, so a kernel that leaks one in each call leaks 128 MB."""
HEADS, LENGTH = 512, 15
"""Not a whole query block, so that `attention` copies the queries."""


def rows(count=1):
    return np.zeros((count, WIDTH), np.float32)


def arguments():
    """kernel -> arguments for which it needs at least a row of memory."""
    row, number, some = np.zeros(WIDTH, np.float32), np.float32(1.0), lambda: rows(LENGTH)
    one, seen, starts = np.zeros(1, np.float32), np.ones(LENGTH, bool), np.array([0, LENGTH])
    weights = np.zeros((1, 1, attention.QUERY_BLOCK, HEADS * attention.QUERY_BLOCK), np.float32)
    square, narrow = np.zeros((512, 512), np.float32), np.zeros((512, 8), np.float32)
    return {
        layer_norm.layer_norm: (rows(), row, row, number, rows(), rows(), one),
        layer_norm.layer_norm_backward: (rows(), rows(), one, row, rows()),
        loss.cross_entropy: (rows(), np.zeros(1, np.int64), seen[:1], number, np.zeros(1), rows()),
        rotary.rotate: (rows(), rows(), rows(), WIDTH // 4, np.zeros(1, np.int64)),
        gemm.gemm: (narrow.T, square, square[:8].copy(), False),  # it packs both
        attention.attention: (some(), some(), some(), starts, seen, number, 0, some(), weights),
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
def test_a_kernel_frees_what_it_allocates(kernel, values):
    assert _growth(kernel, values, CALLS if "attention" not in kernel.__name__ else CALLS // 4) < GROWTH


def test_a_kernel_that_does_not_is_seen():
    @uncached
    def forgetful(x):
        memory.allocate(1, x.shape[1], x)[:] = 1.0

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
    @uncached
    def beginning(x):
        buffer = memory.allocate(3, 5, x)
        found = buffer.ctypes.data
        memory.free(buffer)
        return found

    assert memory.aligned_zeros((3, 5), dtype).ctypes.data % memory.CACHE_LINE == 0
    assert beginning(np.zeros((1, 1), dtype)) % memory.CACHE_LINE == 0


def test_no_memory_is_an_error():
    @uncached
    def greedy(x, i, j):  # indices unknown to LLVM, which would otherwise remove the allocation
        buffer = memory.allocate(2**25, 2**25, x)
        buffer[i, j] = 1.0
        found = buffer[j, i]
        memory.free(buffer)
        return found

    with pytest.raises(MemoryError, match="no memory for a kernel"):
        greedy(rows(), 3, 4)
