"""Rotary position embedding (Su et al. 2021), rotate-half pairing: feature i of a head turns with feature i + K/2."""

from impl.kernels.elementary import sin_cos
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.memory import free, scratch


@kernel
def angles(rates, cosine, sine):
    """cosine, sine [context, K/2] of position * rate, float64."""
    for position in range(cosine.shape[0]):
        for i in range(rates.size):
            sine[position, i], cosine[position, i] = sin_cos(position * rates[i])


@kernel
def rotate(x, cosine, sine, half, positions):
    """In place: x[n, d] cos + x[n, d +- half] sin.

    x [N, D]; positions int64 [N]; cosine, sine [context, D], of each position; half = K/2. A feature turns with the one
    `half` further if it is in the first half of its head. Both are read, then one is taken: that vectorises, a table of
    partners would not, nor reading the one that is taken.
    """
    width, zero = x.shape[1], x.dtype.type(0.0)
    room = scratch(2, width + 2 * half, x)
    room[:] = zero
    before, row, after = room[0, :width], room[0, half : half + width], room[0, 2 * half :]
    lower = room[1, :width]
    for d in range(width):
        lower[d] = 1.0 if d % (2 * half) < half else 0.0
    for n in range(x.shape[0]):
        position = positions[n]
        for d in range(width):
            row[d] = x[n, d]
        for d in range(width):
            further, nearer = after[d], before[d]
            partner = further if lower[d] > zero else nearer
            x[n, d] = row[d] * cosine[position, d] + partner * sine[position, d]
    free(room)
