"""Rotary position embedding (Su et al. 2021), rotate-half pairing: feature i of a head is paired with i + K/2."""

from impl.kernels.math_functions import sin_cos
from impl.kernels.runtime.compile import kernel
from impl.kernels.runtime.memory import allocate, free


@kernel
def angles(rates, cosine, sine):
    """The cosine and sine [context, K/2] of position * rate, float64; `rates` are the frequencies theta_i [K/2]."""
    for position in range(cosine.shape[0]):
        for i in range(rates.size):
            sine[position, i], cosine[position, i] = sin_cos(position * rates[i])


@kernel
def rotate(x, cosine, signed_sine, half, positions):
    """In place: x[n, d] = x[n, d] cosine + x[n, partner of d] signed_sine, both in the row of the position of n.

    x [N, D]; positions int64 [N]; cosine, signed_sine [context, D]; half = K/2. The partner of d is d + half in the
    first half of its head, else d - half. This is x cos + rotate_half(x) sin of GPT-NeoX, where rotate_half swaps the
    halves of a head and negates the first; here signed_sine, -sin in the first half of a head, has the sign. Both
    candidates are read and one is selected: this vectorises, whereas an index table or a conditional read does not.
    """
    width, zero = x.shape[1], x.dtype.type(0.0)
    buffer = allocate(2, width + 2 * half, x)
    buffer[:] = zero
    # Shifted views of one buffer: plus_half[d] is row[d + half], minus_half[d] is row[d - half].
    minus_half, row, plus_half = buffer[0, :width], buffer[0, half : half + width], buffer[0, 2 * half :]
    in_first_half = buffer[1, :width]
    for d in range(width):
        in_first_half[d] = 1.0 if d % (2 * half) < half else 0.0
    for n in range(x.shape[0]):
        position = positions[n]
        for d in range(width):
            row[d] = x[n, d]
        for d in range(width):
            after, before = plus_half[d], minus_half[d]
            partner = after if in_first_half[d] > zero else before
            x[n, d] = row[d] * cosine[position, d] + partner * signed_sine[position, d]
    free(buffer)
