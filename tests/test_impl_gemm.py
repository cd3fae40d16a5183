"""The matrix product's promise: every element is one accumulator of fma, whatever the tiling."""

from collections.abc import Callable

import numpy as np
import pytest
from numba import njit

from impl.kernels.gemm import gemm, small_gemm
from impl.kernels.runtime.fma import fma

_SHAPES = [(1, 1, 1), (8, 5, 32), (9, 7, 33), (16, 64, 48), (13, 1, 70), (3, 40, 15), (24, 9, 16), (5, 0, 6)]
_SHAPES += [
    (19, 700, 520),
    (512, 0, 520),
]  # large enough that blocks are copied, with edges on all sides
_LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "neither": lambda x: np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::2],
}


@njit
def _one_accumulator_per_element(a, b, c):
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = c[i, j]
            for k in range(a.shape[1]):
                total = fma(a[i, k], b[k, j], total)
            c[i, j] = total


def _operands(shape, dtype):
    rows, depth, columns = shape
    random = np.random.default_rng(rows * 1000 + columns)
    return (
        random.standard_normal((rows, depth)).astype(dtype),
        random.standard_normal((depth, columns)).astype(dtype),
        random.standard_normal((rows, columns)).astype(dtype),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("layout_of_a", _LAYOUTS)
@pytest.mark.parametrize("layout_of_b", _LAYOUTS)
@pytest.mark.parametrize("add", [False, True])
def test_bits_are_those_of_one_accumulator_per_element(shape, dtype, layout_of_a, layout_of_b, add):
    a, b, c = _operands(shape, dtype)
    a, b = _LAYOUTS[layout_of_a](a), _LAYOUTS[layout_of_b](b)
    expected = c.copy() if add else np.zeros_like(c)
    _one_accumulator_per_element(a, b, expected)
    gemm(a, b, c, add)
    assert c.tobytes() == expected.tobytes()


@njit
def _small(a, b, c, add):
    small_gemm(a, b, c, add)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [2, 8, 13, 16, 20, 24, 48])
@pytest.mark.parametrize("add", [False, True])
def test_small_products_are_the_same_accumulators(dtype, columns, add):
    a, b, c = _operands((24, 16, columns), dtype)
    expected = c.copy() if add else np.zeros_like(c)
    _one_accumulator_per_element(a, b, expected)
    _small(a, b, c, add)
    assert c.tobytes() == expected.tobytes()


def test_a_sum_over_tokens_can_be_continued():
    """dW over a batch is dW over its first part, continued by the second: a split of the batch changes no bit."""
    x, dy, _ = _operands((64, 96, 64), "float32")
    whole, parts = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    gemm(x, dy, whole, False)
    gemm(x[:, :33], dy[:33], parts, True)
    gemm(x[:, 33:], dy[33:], parts, True)
    assert whole.tobytes() == parts.tobytes()


def test_nan_in_the_old_contents_does_not_survive_an_overwrite():
    a, b, c = _operands((9, 4, 33), "float32")
    c[:] = np.nan
    gemm(a, b, c, False)
    assert np.isfinite(c).all()
