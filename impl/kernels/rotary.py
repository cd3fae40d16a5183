"""Rotary position embedding (Su et al. 2021), rotate-half pairing: feature i of a head turns with feature i + K/2."""

import numpy as np

from impl.kernels.compile import kernel
from impl.kernels.elementary import sin_cos


@kernel
def angles(rates, cosine, sine):
    """cosine, sine [context, K/2] of position * rate, float64."""
    for position in range(cosine.shape[0]):
        for i in range(rates.size):
            sine[position, i], cosine[position, i] = sin_cos(position * rates[i])


@kernel
def rotate(x, cosine, sine, partner, length):
    """In place: x[n, d] cos + x[n, partner(d)] sin; x [N, D], cosine, sine [context, D], partner int64 [D]."""
    row = np.empty(x.shape[1], x.dtype)
    for n in range(x.shape[0]):
        position = n % length
        for d in range(x.shape[1]):
            row[d] = x[n, d]
        for d in range(x.shape[1]):
            x[n, d] = row[d] * cosine[position, d] + row[partner[d]] * sine[position, d]


@kernel
def rotate_back(x, cosine, sine, partner, length):
    """The inverse of `rotate`: by the negative angles."""
    row = np.empty(x.shape[1], x.dtype)
    for n in range(x.shape[0]):
        position = n % length
        for d in range(x.shape[1]):
            row[d] = x[n, d]
        for d in range(x.shape[1]):
            x[n, d] = row[d] * cosine[position, d] - row[partner[d]] * sine[position, d]
