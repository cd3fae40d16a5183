"""Forward and backward pass of MiniGPT over some whole sequences: what one worker does with a piece of a batch.

Rows are positions. What a gradient sums over all rows of a batch is added when it is this piece's turn.
"""

from typing import Any, NamedTuple

from impl.kernels.activation import gelu
from impl.kernels.attention import attention, attention_backward
from impl.kernels.dropout import apply_keep, drop, dropout_keep
from impl.kernels.elementwise import (
    add,
    add_rows,
    add_to,
    copy,
    fill_rows,
    gather_rows,
    multiply_by,
    scatter_add_rows,
)
from impl.kernels.gemm import gemm
from impl.kernels.layer_norm import layer_norm, layer_norm_backward, layer_norm_parameters_backward
from impl.kernels.rotary import rotate
from impl.kernels.rows import Rows
from impl.kernels.runtime.compile import kernel, part
from impl.kernels.runtime.ordered import BRANCHES, EMBEDDING, HEAD, take, wait_for_turn
from impl.kernels.transpose import transpose
from impl.kernels.views import (
    Shape,
    Size,
    block,
    ends,
    keeps_transposes,
    kept,
    passing,
    transposed,
    transposed_embedding,
)

Array = Any


class Model(NamedTuple):
    """What the passes read: parameters, the transposes kept of them, tables of the rotary embedding, two scalars.

    The transposes are made by `work`.
    """

    shape: Shape
    parameters: Array
    transposed: Array
    cosine: Array
    sine: Array
    back: Array
    half: int
    norm_eps: Any
    score_scale: Any


class Piece(NamedTuple):
    """Some sequences, and a worker's room for what becomes of them."""

    number: int
    """Of the piece: whose turn it is."""
    rows: Rows
    size: Size
    room: Array
    keep: Array
    """bool, flat: what each dropout site kept."""


class Dropping(NamedTuple):
    """One step's dropout: see kernels/dropout.py."""

    on: bool
    key: Array
    step: int
    threshold: Any
    scale: Any
    context: int


# ---- forward


@part
def forward(piece, model, dropping):
    """embedded, the `out` of every block, normed (by the final LayerNorm) and logits."""
    shape, size = model.shape, piece.size
    last, outer = passing(piece.room, size, shape), ends(model.parameters, shape)
    gather_rows(outer.E, piece.rows.input, last.embedded)
    _drop(last.embedded, 0, piece, dropping)
    x = last.embedded
    for i in range(shape.layers):
        here, weights = kept(piece.room, i, size, shape), block(model.parameters, i, shape)
        _attention_branch(x, here, weights, last.branch, model, piece)
        _drop(last.branch, 1 + 2 * i, piece, dropping)
        add(x, last.branch, here.between)
        _ffn_branch(here, weights, last.hidden, last.branch, model)
        _drop(last.branch, 2 + 2 * i, piece, dropping)
        add(here.between, last.branch, here.out)
        x = here.out
    layer_norm(
        x, outer.gamma, outer.beta, model.norm_eps, last.normed, last.normalised, last.inverse_deviation
    )
    gemm(last.normed, transposed_embedding(model.transposed, shape), last.logits, False)


@kernel
def transpose_matrices(parameters, out, shape):
    """Fill flat transposes, as far as the model keeps them."""
    E = ends(parameters, shape).E
    transpose(E, transposed_embedding(out, shape))
    for i in range(shape.layers if keeps_transposes(shape) else 0):
        here, turned = block(parameters, i, shape), transposed(parameters, out, i, shape)
        transpose(here.W_q, turned.W_q)
        transpose(here.W_k, turned.W_k)
        transpose(here.W_v, turned.W_v)
        transpose(here.W_o, turned.W_o)
        transpose(here.W_1, turned.W_1)
        transpose(here.W_2, turned.W_2)


@part
def _attention_branch(x, here, weights, out, model, piece):
    """out = attention(LN(x)) W_o."""
    layer_norm(
        x,
        weights.gamma_1,
        weights.beta_1,
        model.norm_eps,
        here.normed_1,
        here.normalised_1,
        here.inverse_deviations[0],
    )
    gemm(here.normed_1, weights.W_q, here.q, False)
    gemm(here.normed_1, weights.W_k, here.k, False)
    gemm(here.normed_1, weights.W_v, here.v, False)
    rows = piece.rows
    rotate(here.q, model.cosine, model.sine, model.half, rows.position)
    rotate(here.k, model.cosine, model.sine, model.half, rows.position)
    attention(here.q, here.k, here.v, rows.starts, rows.key_mask, model.score_scale, here.mixed, here.weights)
    gemm(here.mixed, weights.W_o, out, False)


@part
def _ffn_branch(here, weights, hidden, out, model):
    """out = GELU(LN(between) W_1 + b_1) W_2 + b_2."""
    layer_norm(
        here.between,
        weights.gamma_2,
        weights.beta_2,
        model.norm_eps,
        here.normed_2,
        here.normalised_2,
        here.inverse_deviations[1],
    )
    fill_rows(weights.b_1, hidden)
    gemm(here.normed_2, weights.W_1, hidden, True)
    gelu(hidden, here.active, here.slope)
    fill_rows(weights.b_2, out)
    gemm(here.active, weights.W_2, out, True)


# ---- backward


@part
def backward(piece, model, dropping, gradients, head_gradient, turns):
    """From dlogits to the gradients of all parameters; turns: see kernels/turns.py."""
    shape, size = model.shape, piece.size
    last, outer = passing(piece.room, size, shape), ends(model.parameters, shape)
    gemm(last.dlogits, outer.E, last.dnormed, False)
    layer_norm_backward(last.dnormed, last.normalised, last.inverse_deviation, outer.gamma, last.dx)
    sums = ends(gradients, shape)
    wait_for_turn(turns, HEAD, piece.number)
    gemm(last.dlogits.T, last.normed, head_gradient, True)
    layer_norm_parameters_backward(last.dnormed, last.normalised, sums.gamma, sums.beta)
    take(turns, HEAD)
    for i in range(shape.layers - 1, -1, -1):
        here, sums_here = kept(piece.room, i, size, shape), block(gradients, i, shape)
        weights = block(model.parameters, i, shape)
        turned = transposed(model.parameters, model.transposed, i, shape)
        _drop_backward(last.dx, 2 + 2 * i, piece, dropping, last.branch)
        _ffn_backward(last, here, weights, turned, sums_here, turns, BRANCHES + 2 * i + 1, piece)
        _drop_backward(last.dx, 1 + 2 * i, piece, dropping, last.branch)
        _attention_backward(last, here, weights, turned, sums_here, turns, BRANCHES + 2 * i, piece, model)
    _drop_backward(last.dx, 0, piece, dropping, last.branch)
    wait_for_turn(turns, EMBEDDING, piece.number)
    scatter_add_rows(last.branch, piece.rows.input, sums.E)
    take(turns, EMBEDDING)


@part
def _ffn_backward(last, here, weights, turned, sums, turns, slot, piece):
    """last.branch is the gradient of the branch; adds what goes through it to last.dx."""
    gemm(last.branch, turned.W_2, last.hidden, False)
    multiply_by(last.hidden, here.slope)
    gemm(last.hidden, turned.W_1, last.dnormed, False)
    wait_for_turn(turns, slot, piece.number)
    gemm(here.active.T, last.branch, sums.W_2, True)
    add_rows(last.branch, sums.b_2)
    gemm(here.normed_2.T, last.hidden, sums.W_1, True)
    add_rows(last.hidden, sums.b_1)
    layer_norm_parameters_backward(last.dnormed, here.normalised_2, sums.gamma_2, sums.beta_2)
    take(turns, slot)
    layer_norm_backward(
        last.dnormed, here.normalised_2, here.inverse_deviations[1], weights.gamma_2, last.branch
    )
    add_to(last.dx, last.branch)


@part
def _attention_backward(last, here, weights, turned, sums, turns, slot, piece, model):
    """The same for the attention branch."""
    rows = piece.rows
    gemm(last.branch, turned.W_o, last.dmixed, False)
    attention_backward(
        last.dmixed,
        here.q,
        here.k,
        here.v,
        rows.starts,
        here.weights,
        model.score_scale,
        last.dq,
        last.dk,
        last.dv,
    )
    rotate(last.dq, model.cosine, model.back, model.half, rows.position)
    rotate(last.dk, model.cosine, model.back, model.half, rows.position)
    gemm(last.dq, turned.W_q, last.dnormed, False)
    gemm(last.dk, turned.W_k, last.dnormed, True)
    gemm(last.dv, turned.W_v, last.dnormed, True)
    wait_for_turn(turns, slot, piece.number)
    gemm(here.mixed.T, last.branch, sums.W_o, True)
    gemm(here.normed_1.T, last.dq, sums.W_q, True)
    gemm(here.normed_1.T, last.dk, sums.W_k, True)
    gemm(here.normed_1.T, last.dv, sums.W_v, True)
    layer_norm_parameters_backward(last.dnormed, here.normalised_1, sums.gamma_1, sums.beta_1)
    take(turns, slot)
    layer_norm_backward(
        last.dnormed, here.normalised_1, here.inverse_deviations[0], weights.gamma_1, last.branch
    )
    add_to(last.dx, last.branch)


# ---- dropout, at the sites 0 (embedding), 1 + 2i (attention of block i), 2 + 2i (its feed-forward network)


@part
def _kept_at(site, piece, width):
    rows = piece.size.rows
    return piece.keep[site * rows * width : (site + 1) * rows * width].reshape(rows, width)


@part
def _drop(x, site, piece, dropping):
    """Drop out in place."""
    if not dropping.on:
        return
    keep = _kept_at(site, piece, x.shape[1])
    dropout_keep(dropping.key, dropping.step, site, dropping.threshold, piece.rows.place, keep)
    drop(x, keep, dropping.scale)


@part
def _drop_backward(dx, site, piece, dropping, out):
    """out = the gradient before the dropout of this site."""
    if dropping.on:
        apply_keep(dx, _kept_at(site, piece, dx.shape[1]), dropping.scale, out)
    else:
        copy(dx, out)
