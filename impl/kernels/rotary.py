"""Rotary position embedding (Su et al. 2021), rotate-half pairing: feature i of a head turns with feature i + K/2."""

from impl.kernels.compile import kernel
from impl.kernels.elementary import sin_cos


@kernel
def angles(rates, cosine, sine):
    """cosine, sine [context, K/2] of position * rate, float64."""
    for position in range(cosine.shape[0]):
        for i in range(rates.size):
            sine[position, i], cosine[position, i] = sin_cos(position * rates[i])


@kernel
def rotate(x, cosine, sine, length):
    """In place, every head of x [N, D]; cosine, sine [context, K/2]. With -sine it is its own inverse: the backward."""
    half = cosine.shape[1]
    for n in range(x.shape[0]):
        position = n % length
        for head in range(0, x.shape[1], 2 * half):
            for i in range(half):
                a, b = x[n, head + i], x[n, head + half + i]
                c, s = cosine[position, i], sine[position, i]
                x[n, head + i] = a * c - b * s
                x[n, head + half + i] = b * c + a * s
