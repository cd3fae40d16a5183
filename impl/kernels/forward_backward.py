"""Forward and backward pass of MiniGPT over a work item: some consecutive sequences of a batch, packed into rows.

Every gradient that is a sum over the rows of a batch has a counter: the item waits for its turn, adds, and increments
the counter (runtime/ordered.py).
"""

from typing import Any, NamedTuple

from impl.kernels.activation import gelu
from impl.kernels.attention import attention, attention_backward
from impl.kernels.dropout import apply_mask, apply_mask_in_place, dropout_mask
from impl.kernels.elementwise import (
    add,
    add_in_place,
    add_rows,
    copy,
    fill_rows,
    gather_rows,
    multiply_in_place,
    scatter_add_rows,
)
from impl.kernels.gemm import gemm
from impl.kernels.layer_norm import layer_norm, layer_norm_backward, layer_norm_parameters_backward
from impl.kernels.packing import PackedRows
from impl.kernels.rotary import rotate
from impl.kernels.runtime.compile import inline_kernel, kernel
from impl.kernels.runtime.ordered import COUNTERS, fetch_add, wait_until
from impl.kernels.transpose import transpose
from impl.kernels.views import (
    ItemShape,
    ModelShape,
    block_parameters,
    embedding_and_final_norm,
    saved_activations,
    scratch,
    stores_transposes,
    transposed_embedding,
    transposed_matrices,
)

Array = Any

TRANSPOSE_CLAIMED, TRANSPOSE_DONE, HEAD, EMBEDDING, BRANCHES = range(COUNTERS, COUNTERS + 5)
"""Indices of the counters of an accumulator, after those of runtime/ordered.py. The first accumulator's counters also
coordinate the transposes: how many workers have asked to make them, and whether they are done. From HEAD on: how many
items have added to the gradients of the head, of the embedding, and of each branch of each block (attention of block i
at BRANCHES + 2i, its feed-forward network at BRANCHES + 2i + 1)."""


class Model(NamedTuple):
    """What the passes read of a model."""

    shape: ModelShape
    parameters: Array
    """flat"""
    transposes: Array
    """flat; `run_worker` fills it."""
    cosine: Array
    sine: Array
    """[context, D]: see `rotate`."""
    negative_sine: Array
    half_head: int
    norm_eps: Any
    score_scale: Any


class DropoutParams(NamedTuple):
    """The dropout of one update: see kernels/dropout.py."""

    on: bool
    key: Array
    step: int
    threshold: Any
    scale: Any
    context: int


class WorkItem(NamedTuple):
    """Some consecutive sequences, and the memory for their activations."""

    number: int
    """Counted from 0 among the items of its accumulator."""
    rows: PackedRows
    shape: ItemShape
    activations: Array
    """flat: see kernels/views.py."""
    keep: Array
    """bool, flat: the dropout mask of every site."""


# ---- forward


@inline_kernel
def forward(item, model, dropout):
    """Fill `SavedActivations` of every block and, in `Scratch`, the embedding, the final LayerNorm and the logits."""
    shape = model.shape
    s, ends = scratch(item.activations, item.shape, shape), embedding_and_final_norm(model.parameters, shape)
    gather_rows(ends.E, item.rows.input, s.embedded)
    _drop(s.embedded, 0, item, dropout)
    x = s.embedded
    for i in range(shape.layers):
        saved = saved_activations(item.activations, i, item.shape, shape)
        p = block_parameters(model.parameters, i, shape)
        _attention_branch(x, saved, p, s.branch, model, item)
        _drop(s.branch, 1 + 2 * i, item, dropout)
        add(x, s.branch, saved.post_attention)
        _ffn_branch(saved, p, s.hidden, s.branch, model)
        _drop(s.branch, 2 + 2 * i, item, dropout)
        add(saved.post_attention, s.branch, saved.block_out)
        x = saved.block_out
    eps = model.norm_eps
    layer_norm(x, ends.gamma, ends.beta, eps, s.final_ln_out, s.final_ln_x_hat, s.final_inverse_std)
    gemm(s.final_ln_out, transposed_embedding(model.transposes, shape), s.logits, False)


@inline_kernel
def _attention_branch(x, saved, p, out, model, item):
    """out = attention(LayerNorm(x)) W_o."""
    rows, eps = item.rows, model.norm_eps
    layer_norm(x, p.gamma_1, p.beta_1, eps, saved.ln1_out, saved.ln1_x_hat, saved.inverse_std[0])
    gemm(saved.ln1_out, p.W_q, saved.q, False)
    gemm(saved.ln1_out, p.W_k, saved.k, False)
    gemm(saved.ln1_out, p.W_v, saved.v, False)
    rotate(saved.q, model.cosine, model.sine, model.half_head, rows.position)
    rotate(saved.k, model.cosine, model.sine, model.half_head, rows.position)
    q, k, v, scale, weights = saved.q, saved.k, saved.v, model.score_scale, saved.attention_weights
    attention(q, k, v, rows.starts, rows.key_mask, scale, saved.attention_out, weights)
    gemm(saved.attention_out, p.W_o, out, False)


@inline_kernel
def _ffn_branch(saved, p, hidden, out, model):
    """out = GELU(LayerNorm(post_attention) W_1 + b_1) W_2 + b_2."""
    x, eps = saved.post_attention, model.norm_eps
    layer_norm(x, p.gamma_2, p.beta_2, eps, saved.ln2_out, saved.ln2_x_hat, saved.inverse_std[1])
    fill_rows(p.b_1, hidden)
    gemm(saved.ln2_out, p.W_1, hidden, True)
    gelu(hidden, saved.gelu_out, saved.gelu_grad)
    fill_rows(p.b_2, out)
    gemm(saved.gelu_out, p.W_2, out, True)


@kernel
def copy_outputs(activations, item, model, streams, logits):
    """Copy what `forward` left of the first N rows of an item: logits [N, V], and streams [layers + 2, N, D].

    The streams are the outputs of the embedding, of every block, and of the final LayerNorm.
    """
    s, rows = scratch(activations, item, model), logits.shape[0]
    copy(s.embedded[:rows], streams[0])
    for i in range(model.layers):
        copy(saved_activations(activations, i, item, model).block_out[:rows], streams[1 + i])
    copy(s.final_ln_out[:rows], streams[1 + model.layers])
    copy(s.logits[:rows], logits)


@kernel
def transpose_matrices(parameters, transposes, shape):
    """Fill the flat transposes: of E, and of the matrices of every block if the model stores them."""
    transpose(embedding_and_final_norm(parameters, shape).E, transposed_embedding(transposes, shape))
    for i in range(shape.layers if stores_transposes(shape) else 0):
        p, t = block_parameters(parameters, i, shape), transposed_matrices(parameters, transposes, i, shape)
        transpose(p.W_q, t.W_q)
        transpose(p.W_k, t.W_k)
        transpose(p.W_v, t.W_v)
        transpose(p.W_o, t.W_o)
        transpose(p.W_1, t.W_1)
        transpose(p.W_2, t.W_2)


# ---- backward


@inline_kernel
def backward(item, model, dropout, gradients, head_gradient, counters):
    """From dlogits to the gradients of all parameters: add to the flat `gradients`, and to those of E as the head."""
    shape = model.shape
    s, ends = scratch(item.activations, item.shape, shape), embedding_and_final_norm(model.parameters, shape)
    d_ends = embedding_and_final_norm(gradients, shape)
    gemm(s.dlogits, ends.E, s.dln_out, False)
    layer_norm_backward(s.dln_out, s.final_ln_x_hat, s.final_inverse_std, ends.gamma, s.dx)
    wait_until(counters, HEAD, item.number)
    gemm(s.dlogits.T, s.final_ln_out, head_gradient, True)
    layer_norm_parameters_backward(s.dln_out, s.final_ln_x_hat, d_ends.gamma, d_ends.beta)
    fetch_add(counters, HEAD, 1)
    for i in range(shape.layers - 1, -1, -1):
        saved = saved_activations(item.activations, i, item.shape, shape)
        p, dp = block_parameters(model.parameters, i, shape), block_parameters(gradients, i, shape)
        t = transposed_matrices(model.parameters, model.transposes, i, shape)
        _drop_backward(s.dx, 2 + 2 * i, item, dropout, s.branch)
        _ffn_backward(s, saved, p, t, dp, counters, BRANCHES + 2 * i + 1, item)
        _drop_backward(s.dx, 1 + 2 * i, item, dropout, s.branch)
        _attention_backward(s, saved, p, t, dp, counters, BRANCHES + 2 * i, item, model)
    _drop_backward(s.dx, 0, item, dropout, s.branch)
    wait_until(counters, EMBEDDING, item.number)
    scatter_add_rows(s.branch, item.rows.input, d_ends.E)
    fetch_add(counters, EMBEDDING, 1)


@inline_kernel
def _ffn_backward(s, saved, p, transposed, dp, counters, counter, item):
    """From the gradient of the branch, s.branch: add to the gradients dp of the block, and to s.dx."""
    gemm(s.branch, transposed.W_2, s.hidden, False)
    multiply_in_place(s.hidden, saved.gelu_grad)
    gemm(s.hidden, transposed.W_1, s.dln_out, False)
    wait_until(counters, counter, item.number)
    gemm(saved.gelu_out.T, s.branch, dp.W_2, True)
    add_rows(s.branch, dp.b_2)
    gemm(saved.ln2_out.T, s.hidden, dp.W_1, True)
    add_rows(s.hidden, dp.b_1)
    layer_norm_parameters_backward(s.dln_out, saved.ln2_x_hat, dp.gamma_2, dp.beta_2)
    fetch_add(counters, counter, 1)
    layer_norm_backward(s.dln_out, saved.ln2_x_hat, saved.inverse_std[1], p.gamma_2, s.branch)
    add_in_place(s.dx, s.branch)


@inline_kernel
def _attention_backward(s, saved, p, transposed, dp, counters, counter, item, model):
    """The same for the attention branch."""
    rows = item.rows
    gemm(s.branch, transposed.W_o, s.dattention_out, False)
    q, k, v, scale, weights = saved.q, saved.k, saved.v, model.score_scale, saved.attention_weights
    attention_backward(s.dattention_out, q, k, v, rows.starts, weights, scale, s.dq, s.dk, s.dv)
    rotate(s.dq, model.cosine, model.negative_sine, model.half_head, rows.position)
    rotate(s.dk, model.cosine, model.negative_sine, model.half_head, rows.position)
    gemm(s.dq, transposed.W_q, s.dln_out, False)
    gemm(s.dk, transposed.W_k, s.dln_out, True)
    gemm(s.dv, transposed.W_v, s.dln_out, True)
    wait_until(counters, counter, item.number)
    gemm(saved.attention_out.T, s.branch, dp.W_o, True)
    gemm(saved.ln1_out.T, s.dq, dp.W_q, True)
    gemm(saved.ln1_out.T, s.dk, dp.W_k, True)
    gemm(saved.ln1_out.T, s.dv, dp.W_v, True)
    layer_norm_parameters_backward(s.dln_out, saved.ln1_x_hat, dp.gamma_1, dp.beta_1)
    fetch_add(counters, counter, 1)
    layer_norm_backward(s.dln_out, saved.ln1_x_hat, saved.inverse_std[0], p.gamma_1, s.branch)
    add_in_place(s.dx, s.branch)


# ---- dropout: site 0 is the embedding, 1 + 2i the attention of block i, 2 + 2i its feed-forward network


@inline_kernel
def _mask_of_site(site, item, width):
    rows = item.shape.rows
    return item.keep[site * rows * width : (site + 1) * rows * width].reshape(rows, width)


@inline_kernel
def _drop(x, site, item, dropout):
    """Apply dropout to x in place."""
    if not dropout.on:
        return
    keep = _mask_of_site(site, item, x.shape[1])
    dropout_mask(dropout.key, dropout.step, site, dropout.threshold, item.rows.mask_index, keep)
    apply_mask_in_place(x, keep, dropout.scale)


@inline_kernel
def _drop_backward(dx, site, item, dropout, out):
    """out = the gradient of the site's input, dx the gradient of its output."""
    if dropout.on:
        apply_mask(dx, _mask_of_site(site, item, dx.shape[1]), dropout.scale, out)
    else:
        copy(dx, out)
