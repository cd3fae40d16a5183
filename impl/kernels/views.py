"""Where things lie in flat arrays: the parameters of MiniGPT (or their gradients), and a worker's activations.

A view shares the memory of the flat array.
"""

from typing import Any, NamedTuple

from impl.kernels.attention import TILE, tiles
from impl.kernels.runtime.compile import kernel, part

Array = Any

WIDE = 256
"""The d_model from which on a block's matrices do not fit into a core's cache."""
WHOLE = 32
"""Columns of the widest tile of `gemm`."""


class Shape(NamedTuple):
    """Sizes of a model."""

    layers: int
    heads: int
    width: int
    hidden: int
    vocabulary: int


class Size(NamedTuple):
    """Of a piece of a batch."""

    rows: int
    sequences: int
    longest: int
    """Rows of a sequence, at most."""


class Block(NamedTuple):
    """Parameters of a block: W_* and b_* as in impl/model/parameters.py, whose order this is."""

    W_q: Array
    W_k: Array
    W_v: Array
    W_o: Array
    W_1: Array
    b_1: Array
    W_2: Array
    b_2: Array
    gamma_1: Array
    beta_1: Array
    gamma_2: Array
    beta_2: Array


class Ends(NamedTuple):
    """What is before the first block and after the last: embedding and final LayerNorm."""

    E: Array
    gamma: Array
    beta: Array


class Transposed(NamedTuple):
    """The matrices of a block, transposed; of a model that keeps no transposes their columns are contiguous."""

    W_q: Array
    W_k: Array
    W_v: Array
    W_o: Array
    W_1: Array
    W_2: Array


class Kept(NamedTuple):
    """What a block's forward pass leaves to its backward pass; [rows, .] but for the attention weights."""

    normed_1: Array
    normalised_1: Array
    q: Array
    k: Array
    v: Array
    mixed: Array
    between: Array
    """The residual stream after attention."""
    normed_2: Array
    normalised_2: Array
    out: Array
    """The residual stream after the block."""
    active: Array
    slope: Array
    inverse_deviations: Array
    """[2, rows], of both LayerNorms."""
    weights: Array
    """[sequences, tiles, tiles * TILE, heads * TILE], for sequences as long as the longest."""


class Passing(NamedTuple):
    """What is not of one block: the two ends of the model, and room that every block uses anew."""

    embedded: Array
    normed: Array
    normalised: Array
    dx: Array
    branch: Array
    dnormed: Array
    dmixed: Array
    dq: Array
    dk: Array
    dv: Array
    hidden: Array
    logits: Array
    dlogits: Array
    inverse_deviation: Array


@kernel
def block_size(shape):
    """Numbers in a block's parameters."""
    return 4 * shape.width**2 + 2 * shape.width * shape.hidden + shape.hidden + 5 * shape.width


@kernel
def ends(flat, shape):
    """Ends of the flat parameters or gradients of a model."""
    d, size = shape.width, shape.vocabulary * shape.width
    last = flat[flat.size - 2 * d :]
    return Ends(flat[:size].reshape(shape.vocabulary, d), last[:d], last[d:])


@kernel
def block(flat, i, shape):
    """Block i of the flat parameters or gradients of a model."""
    d, f = shape.width, shape.hidden
    first = shape.vocabulary * d + i * block_size(shape)
    square = flat[first : first + 4 * d * d].reshape(4 * d, d)
    first += 4 * d * d
    up, b_1 = flat[first : first + d * f].reshape(d, f), flat[first + d * f : first + d * f + f]
    first += d * f + f
    down, b_2 = flat[first : first + d * f].reshape(f, d), flat[first + d * f : first + d * f + d]
    norms = flat[first + d * f + d : first + d * f + 5 * d].reshape(4, d)
    W_q, W_k, W_v, W_o = square[:d], square[d : 2 * d], square[2 * d : 3 * d], square[3 * d :]
    return Block(W_q, W_k, W_v, W_o, up, b_1, down, b_2, norms[0], norms[1], norms[2], norms[3])


@kernel
def keeps_transposes(shape):
    """Whether a block's matrices are transposed before all pieces.

    Wide ones are not: `gemm` transposes what it copies of them, which costs it nothing. But it does so for whole tiles.
    """
    return shape.width < WIDE or shape.width % WHOLE > 0 or shape.hidden % WHOLE > 0


@kernel
def transposed(parameters, flat, i, shape):
    """Block i of flat transposes, which lie where the matrices themselves lie in the parameters; or views of these."""
    d, f = shape.width, shape.hidden
    if keeps_transposes(shape):
        same = block(flat, i, shape)
        W_q, W_k, W_v, W_o = same.W_q, same.W_k, same.W_v, same.W_o
        W_1, W_2 = same.W_1.reshape(f, d), same.W_2.reshape(d, f)
        return Transposed(_any(W_q), _any(W_k), _any(W_v), _any(W_o), _any(W_1), _any(W_2))
    here = block(parameters, i, shape)
    W_q, W_k, W_v, W_o = here.W_q.T, here.W_k.T, here.W_v.T, here.W_o.T
    return Transposed(_any(W_q), _any(W_k), _any(W_v), _any(W_o), _any(here.W_1.T), _any(here.W_2.T))


@part
def _any(x):
    """The same, of a type that says nothing of its strides."""
    return x[::1, ::1]


@part
def transposed_embedding(flat, shape):
    """E transposed, [D, V], of flat transposes."""
    return ends(flat, shape).E.reshape(shape.width, shape.vocabulary)


@kernel
def kept_size(size, shape):
    """Numbers in the `Kept` of a block."""
    weights = size.sequences * shape.heads * (tiles(size.longest) * TILE) ** 2
    return size.rows * (10 * shape.width + 2 * shape.hidden) + weights + tiles(2 * size.rows) * TILE


@kernel
def kept(room, i, size, shape):
    """`Kept` of block i in a worker's room."""
    d, f, rows = shape.width, shape.hidden, size.rows
    numbers, count = kept_size(size, shape), tiles(size.longest)
    mine = room[i * numbers : (i + 1) * numbers]
    narrow = mine[: 10 * rows * d].reshape(10, rows, d)
    wide = mine[10 * rows * d : rows * (10 * d + 2 * f)].reshape(2, rows, f)
    rest = mine[rows * (10 * d + 2 * f) : numbers - tiles(2 * rows) * TILE]
    deviations = mine[numbers - tiles(2 * rows) * TILE :][: 2 * rows].reshape(2, rows)
    return Kept(
        narrow[0],
        narrow[1],
        narrow[2],
        narrow[3],
        narrow[4],
        narrow[5],
        narrow[6],
        narrow[7],
        narrow[8],
        narrow[9],
        wide[0],
        wide[1],
        deviations,
        rest.reshape(size.sequences, count, count * TILE, shape.heads * TILE),
    )


@kernel
def passing_size(size, shape):
    """Numbers in `Passing`."""
    return size.rows * (10 * shape.width + shape.hidden + 2 * shape.vocabulary + 1)


@kernel
def passing(room, size, shape):
    """`Passing` in a worker's room, behind the blocks."""
    d, f, v, rows = shape.width, shape.hidden, shape.vocabulary, size.rows
    first = shape.layers * kept_size(size, shape)
    mine = room[first : first + passing_size(size, shape)]
    narrow = mine[: 10 * rows * d].reshape(10, rows, d)
    hidden = mine[10 * rows * d : rows * (10 * d + f)].reshape(rows, f)
    heads = mine[rows * (10 * d + f) : rows * (10 * d + f + 2 * v)].reshape(2, rows, v)
    return Passing(
        narrow[0],
        narrow[1],
        narrow[2],
        narrow[3],
        narrow[4],
        narrow[5],
        narrow[6],
        narrow[7],
        narrow[8],
        narrow[9],
        hidden,
        heads[0],
        heads[1],
        mine[rows * (10 * d + f + 2 * v) :],
    )


@kernel
def room_size(size, shape):
    """Numbers in a worker's room."""
    return shape.layers * kept_size(size, shape) + passing_size(size, shape)
