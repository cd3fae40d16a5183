"""Muon (Jordan et al. 2024) of the matrices in a flat buffer: each is computed by one thread, in one order of its sums.

The iteration is that of Amsel et al. (arXiv 2505.16932), the second moment NorMuon's (Li et al., arXiv 2510.05491), the
decay cautious (Chen et al., arXiv 2510.12402). Products are those of gemm.py: the bits of a matrix depend neither on
the vector width nor on which thread computes it.
"""

from typing import NamedTuple

import numpy as np

from impl.kernels.gemm import gemm
from impl.kernels.reduce import sum_squares
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.memory import allocate, free
from impl.kernels.runtime.ticket_counters import DONE, NEXT_ITEM, fetch_add, wait_until

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""(a, b, c) of each step; an entry for a step."""
SAFETY, ADDED = 1.02, 1e-6
"""A matrix is divided by SAFETY times its norm, plus ADDED."""
LEAST_SQUARE = 1e-10
"""The least second moment, and the least norm, that is divided by."""


class MuonScalars(NamedTuple):
    """The float64 constants of one update."""

    lr: float
    mu: float
    one_minus_mu: float
    beta2: float
    one_minus_beta2: float
    weight_decay: float
    clip_factor: float
    """The gradient is multiplied by it; a factor of 1 changes no bit."""


@kernel
def combine(x, y, a, b):
    """x = a x + b y; both flat, a and b in their dtype."""
    for i in range(x.size):
        x[i] = a * x[i] + b * y[i]


@kernel
def orthogonalize(x, coefficients):
    """The Polar Express of x [n, m], in place; coefficients [5, 3] in its dtype.

    X = a X + (b A + c A A) X with A = X X^T; of a tall matrix X = a X + X (b A + c A A) with A = X^T X.
    """
    number = x.dtype.type
    rows, columns = x.shape
    flat = x.reshape(-1)
    combine(flat, flat, number(1.0 / (np.sqrt(sum_squares(flat)) * SAFETY + ADDED)), number(0.0))
    side = min(rows, columns)
    square, fourth, product = allocate(side, side, x), allocate(side, side, x), allocate(rows, columns, x)
    for step in range(coefficients.shape[0]):
        a, b, c = coefficients[step, 0], coefficients[step, 1], coefficients[step, 2]
        if rows <= columns:
            gemm(x, x.T, square, False)
        else:
            gemm(x.T, x, square, False)
        gemm(square, square, fourth, False)
        combine(square.reshape(-1), fourth.reshape(-1), b, c)
        if rows <= columns:
            gemm(square, x, product, False)
        else:
            gemm(x, square, product, False)
        combine(flat, product.reshape(-1), a, number(1.0))
    free(square)
    free(fourth)
    free(product)


@kernel
def normalise(x, second, by_columns, beta2, rest):
    """NorMuon of x [n, m], in place: its second moment, [m] of the columns or [n] of the rows, is updated as well."""
    number = x.dtype.type
    rows, columns = x.shape
    before = np.sqrt(sum_squares(x.reshape(-1)))
    count = number(rows if by_columns else columns)
    scales = allocate(1, second.size, x)
    scale = scales[0]
    scale[:] = number(0.0)
    for i in range(rows):
        if by_columns:
            for j in range(columns):
                scale[j] += x[i, j] * x[i, j]
        else:
            scale[i] = number(sum_squares(x[i]))
    for k in range(second.size):
        second[k] = beta2 * second[k] + rest * (scale[k] / count)
        scale[k] = number(1.0) / np.sqrt(max(second[k], number(LEAST_SQUARE)))
    for i in range(rows):
        for j in range(columns):
            x[i, j] *= scale[j] if by_columns else scale[i]
    after = np.sqrt(sum_squares(x.reshape(-1)))
    factor = number(before / max(after, LEAST_SQUARE))
    for i in range(rows):
        for j in range(columns):
            x[i, j] *= factor
    free(scales)


@kernel
def muon(p, g, momentum, second, by_columns, scale, coefficients, scalars):
    """One update in place; p, g, momentum [n, m], second [n] or [m], all of one dtype; g is not changed.

    `scale` multiplies the rate. Where update and weight have opposite signs nothing decays.
    """
    number = p.dtype.type
    clip, mu, rest = number(scalars.clip_factor), number(scalars.mu), number(scalars.one_minus_mu)
    x = allocate(p.shape[0], p.shape[1], p)
    weights, gradient, average, flat = p.reshape(-1), g.reshape(-1), momentum.reshape(-1), x.reshape(-1)
    for i in range(flat.size):
        clipped = clip * gradient[i]
        moved = mu * average[i] + rest * clipped
        average[i] = moved
        flat[i] = mu * moved + rest * clipped
    orthogonalize(x, coefficients)
    normalise(x, second, by_columns, number(scalars.beta2), number(scalars.one_minus_beta2))
    rate, decay = number(scalars.lr * scale), number(scalars.lr * scale * scalars.weight_decay)
    zero = number(0.0)
    for i in range(flat.size):
        opposite = (flat[i] < zero and weights[i] > zero) or (flat[i] > zero and weights[i] < zero)
        weights[i] -= rate * flat[i] + (zero if opposite else decay * weights[i])
    free(x)


@kernel
def muon_of_matrices(counters, p, g, momentum, second, table, scales, coefficients, scalars):
    """`muon` of every matrix of a table, in flat buffers; returns when all are done, whichever threads did them.

    A row of table [k, 6] has where the matrix begins in p and g, where in the momentum, where its second moment begins,
    its rows and columns, and whether the second moment is of columns. scales [k] float64; counters as in
    runtime/ticket_counters.py.
    """
    i = fetch_add(counters, NEXT_ITEM, 1)
    while i < table.shape[0]:
        at, in_momentum, in_second = table[i, 0], table[i, 1], table[i, 2]
        rows, columns, by_columns = table[i, 3], table[i, 4], table[i, 5]
        size = rows * columns
        length = columns if by_columns else rows
        muon(
            p[at : at + size].reshape((rows, columns)),
            g[at : at + size].reshape((rows, columns)),
            momentum[in_momentum : in_momentum + size].reshape((rows, columns)),
            second[in_second : in_second + length],
            by_columns != 0,
            scales[i],
            coefficients,
            scalars,
        )
        fetch_add(counters, DONE, 1)
        i = fetch_add(counters, NEXT_ITEM, 1)
    wait_until(counters, DONE, table.shape[0])
