"""Sums in float64 in one fixed order: eight lanes by index modulo 8, then a fixed tree."""

from impl.kernels.compile import inlined, kernel
from impl.kernels.fma import fma


@inlined
def _tree(s0, s1, s2, s3, s4, s5, s6, s7):
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


@inlined
def row_sum(x):
    """Sum of a contiguous float64 array."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = x.size - x.size % 8
    for i in range(0, whole, 8):
        s0 += x[i]
        s1 += x[i + 1]
        s2 += x[i + 2]
        s3 += x[i + 3]
        s4 += x[i + 4]
        s5 += x[i + 5]
        s6 += x[i + 6]
        s7 += x[i + 7]
    for i in range(whole, x.size):
        s0 += x[i]
    return _tree(s0, s1, s2, s3, s4, s5, s6, s7)


@inlined
def row_dot(x, y):
    """Sum of x[i] * y[i] of two contiguous float64 arrays, each product fused into its lane."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = x.size - x.size % 8
    for i in range(0, whole, 8):
        s0 = fma(x[i], y[i], s0)
        s1 = fma(x[i + 1], y[i + 1], s1)
        s2 = fma(x[i + 2], y[i + 2], s2)
        s3 = fma(x[i + 3], y[i + 3], s3)
        s4 = fma(x[i + 4], y[i + 4], s4)
        s5 = fma(x[i + 5], y[i + 5], s5)
        s6 = fma(x[i + 6], y[i + 6], s6)
        s7 = fma(x[i + 7], y[i + 7], s7)
    for i in range(whole, x.size):
        s0 = fma(x[i], y[i], s0)
    return _tree(s0, s1, s2, s3, s4, s5, s6, s7)


@kernel
def sum_squares(x):
    """Sum of x[i]^2 over a flat array of any float type, in float64 (squares of float32 are exact there)."""
    total = 0.0
    for start in range(0, x.size, 4096):
        block = x[start : start + 4096].astype("float64")
        total += row_dot(block, block)
    return total
