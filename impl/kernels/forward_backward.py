"""Forward and backward pass of MiniGPT over a work item: some consecutive sequences of a batch, packed into rows.

Every gradient that is a sum over the rows of a batch has a counter: the item waits for its turn, adds, and increments
the counter (runtime/ticket_counters.py).
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
from impl.kernels.half_precision import round_rows
from impl.kernels.layer_norm import layer_norm, layer_norm_backward, layer_norm_parameters_backward
from impl.kernels.memory_layout import (
    ItemShape,
    ModelShape,
    block_activations,
    block_input,
    block_parameters,
    embedding_and_final_norm,
    outer_activations,
    scratch,
    stores_transposes,
    transposed_embedding,
    transposed_matrices,
)
from impl.kernels.objective import soft_cap
from impl.kernels.packing import PackedRows
from impl.kernels.rotary import rotate
from impl.kernels.runtime.compile import numba_inlined, orchestrating_kernel
from impl.kernels.runtime.ticket_counters import FIRST_FREE_COUNTER, fetch_add, wait_until
from impl.kernels.transpose import transpose

Array = Any

TRANSPOSE_CLAIMED, TRANSPOSE_DONE, HEAD, EMBEDDING, FIRST_BRANCH = range(
    FIRST_FREE_COUNTER, FIRST_FREE_COUNTER + 5
)
"""Indices of the counters of an accumulator, after those of runtime/ticket_counters.py. The first accumulator's
counters also coordinate the transposes: how many workers have asked to make them, and whether they are done. From HEAD
on, each counter is how many items have added to some gradients: HEAD, of the tied head and the final LayerNorm;
EMBEDDING, of the embedding; FIRST_BRANCH + 2i, of attention in block i and the LayerNorm before it; FIRST_BRANCH + 2i
+ 1, of the feed-forward network in block i and the LayerNorm before it."""


class Objective(NamedTuple):
    """What is minimised beside the cross-entropy, float64; 0 is off."""

    softcap: float
    label_smoothing: float
    z_loss: float


class Model(NamedTuple):
    """The parameters, tables and constants of a model, which both passes read."""

    shape: ModelShape
    parameters: Array
    """flat"""
    weights: Array
    """flat: what matrix products read, `parameters` itself or a copy that is rounded to `form`"""
    form: int
    """Of the operands and results of matrix products: see kernels/half_precision.py."""
    transposes: Array
    """flat; `run_worker` fills it."""
    cosine: Array
    signed_sine: Array
    """[context, D]: see `rotate`."""
    signed_sine_backward: Array
    """-signed_sine, which rotates back."""
    half_head: int
    """K/2"""
    norm_eps: Any
    score_scale: Any
    """1 / sqrt(K)"""
    window: int
    """Keys that a position may attend to; 0: all."""
    objective: Objective


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
    packed: PackedRows
    shape: ItemShape
    activations: Array
    """flat: see kernels/memory_layout.py."""
    keep: Array
    """bool, flat: the dropout mask of every site."""
    passes: Array
    """int64 [layers + 1]: how often each block was computed, and last how many items there were."""


# ---- forward
#
# `round_rows` is where a 16-bit autocast rounds; it does nothing without one. LayerNorm, the residual stream, rotation,
# softmax, the loss and the gradients of parameters stay in the type of the model.


@numba_inlined
def forward(item, model, dropout):
    """Fill `BlockActivations` of every block, and `OuterActivations` except dlogits."""
    shape = model.shape
    outer = outer_activations(item.activations, item.shape, shape)
    E, gamma_f, beta_f = embedding_and_final_norm(model.parameters, shape)
    gather_rows(E, item.packed.input, outer.embedded)
    _drop(outer.embedded, 0, item, dropout)
    item.passes[shape.n_layers] += 1
    for i in range(shape.n_layers):
        block_forward(i, item, model, dropout)
        if shape.recompute and i + 1 < shape.n_layers:
            block = block_activations(item.activations, i, item.shape, shape)
            copy(block.block_out, block_input(item.activations, i + 1, item.shape, shape).x)
    x = block_activations(item.activations, shape.n_layers - 1, item.shape, shape).block_out
    final_ln_out, eps = outer.final_ln_out, model.norm_eps
    layer_norm(x, gamma_f, beta_f, eps, final_ln_out, outer.final_ln_x_hat, outer.final_inverse_std)
    round_rows(final_ln_out, model.form)
    gemm(final_ln_out, transposed_embedding(model.transposes, shape), outer.logits, False)
    round_rows(outer.logits, model.form)
    if model.objective.softcap > 0.0:
        soft_cap(outer.logits, model.objective.softcap, 1.0, outer.logits)


@orchestrating_kernel
def block_forward(i, item, model, dropout):
    """Fill `BlockActivations` of block i from its input; the forward pass, and the backward pass that recomputes."""
    shape = model.shape
    s = scratch(item.activations, item.shape, shape)
    block = block_activations(item.activations, i, item.shape, shape)
    p, w = block_parameters(model.parameters, i, shape), block_parameters(model.weights, i, shape)
    item.passes[i] += 1
    x = block_input(item.activations, i, item.shape, shape).x
    _attention_branch(x, block, p, w, s.branch, model, item)
    _drop(s.branch, 1 + 2 * i, item, dropout)
    add(x, s.branch, block.post_attention)
    _ffn_branch(block, p, w, s.hidden, s.branch, model)
    _drop(s.branch, 2 + 2 * i, item, dropout)
    add(block.post_attention, s.branch, block.block_out)


@numba_inlined
def _attention_branch(x, block, p, w, out, model, item):
    """out = attention(LayerNorm(x)) W_o; LayerNorm with the parameters p, products with the weights w."""
    packed, eps, form = item.packed, model.norm_eps, model.form
    layer_norm(x, p.gamma_1, p.beta_1, eps, block.ln1_out, block.ln1_x_hat, block.inverse_std[0])
    round_rows(block.ln1_out, form)
    gemm(block.ln1_out, w.W_q, block.q, False)
    gemm(block.ln1_out, w.W_k, block.k, False)
    gemm(block.ln1_out, w.W_v, block.v, False)
    round_rows(block.q, form)
    round_rows(block.k, form)
    round_rows(block.v, form)
    rotate(block.q, model.cosine, model.signed_sine, model.half_head, packed.position)
    rotate(block.k, model.cosine, model.signed_sine, model.half_head, packed.position)
    round_rows(block.q, form)
    round_rows(block.k, form)
    q, k, v, scale, weights = block.q, block.k, block.v, model.score_scale, block.attention_weights
    attention(q, k, v, packed.starts, packed.key_mask, scale, model.window, block.attention_out, weights)
    round_rows(block.attention_out, form)
    gemm(block.attention_out, w.W_o, out, False)
    round_rows(out, form)


@numba_inlined
def _ffn_branch(block, p, w, hidden, out, model):
    """out = GELU(LayerNorm(post_attention) W_1 + b_1) W_2 + b_2."""
    x, eps, form = block.post_attention, model.norm_eps, model.form
    layer_norm(x, p.gamma_2, p.beta_2, eps, block.ln2_out, block.ln2_x_hat, block.inverse_std[1])
    round_rows(block.ln2_out, form)
    fill_rows(w.b_1, hidden)
    gemm(block.ln2_out, w.W_1, hidden, True)
    round_rows(hidden, form)
    gelu(hidden, block.gelu_out, block.gelu_grad)
    round_rows(block.gelu_out, form)
    fill_rows(w.b_2, out)
    gemm(block.gelu_out, w.W_2, out, True)
    round_rows(out, form)


@orchestrating_kernel
def copy_outputs(activations, item_shape, shape, layer_outputs, logits):
    """Copy the first N rows of the outputs of every layer; layer_outputs [layers + 2, N, D], logits [N, V].

    The layers are the embedding, every block and the final LayerNorm; `forward` must have filled `activations`.
    """
    outer, n = outer_activations(activations, item_shape, shape), logits.shape[0]
    copy(outer.embedded[:n], layer_outputs[0])
    for i in range(shape.n_layers):
        if i + 1 < shape.n_layers:
            copy(block_input(activations, i + 1, item_shape, shape).x[:n], layer_outputs[1 + i])
        else:
            copy(block_activations(activations, i, item_shape, shape).block_out[:n], layer_outputs[1 + i])
    copy(outer.final_ln_out[:n], layer_outputs[1 + shape.n_layers])
    copy(outer.logits[:n], logits)


@orchestrating_kernel
def transpose_matrices(parameters, transposes, shape):
    """Fill the flat `transposes` with E^T and, if `stores_transposes`, with the transposes of every block."""
    transpose(embedding_and_final_norm(parameters, shape).E, transposed_embedding(transposes, shape))
    for i in range(shape.n_layers if stores_transposes(shape) else 0):
        p, t = block_parameters(parameters, i, shape), transposed_matrices(parameters, transposes, i, shape)
        transpose(p.W_q, t.W_q)
        transpose(p.W_k, t.W_k)
        transpose(p.W_v, t.W_v)
        transpose(p.W_o, t.W_o)
        transpose(p.W_1, t.W_1)
        transpose(p.W_2, t.W_2)


# ---- backward


@numba_inlined
def backward(item, model, dropout, gradients, head_gradient, counters):
    """Backpropagate from dlogits to all parameters: add to the flat `gradients`, and to head_gradient [V, D].

    head_gradient receives the gradient of E as the tied head, `gradients` that of E as the embedding.
    """
    shape = model.shape
    s, outer = (
        scratch(item.activations, item.shape, shape),
        outer_activations(item.activations, item.shape, shape),
    )
    _, gamma_f, _ = embedding_and_final_norm(model.parameters, shape)
    E, form = embedding_and_final_norm(model.weights, shape).E, model.form
    dE, dgamma_f, dbeta_f = embedding_and_final_norm(gradients, shape)
    round_rows(outer.dlogits, form)
    gemm(outer.dlogits, E, s.dln_out, False)
    round_rows(s.dln_out, form)
    layer_norm_backward(s.dln_out, outer.final_ln_x_hat, outer.final_inverse_std, gamma_f, s.dx)
    wait_until(counters, HEAD, item.number)
    gemm(outer.dlogits.T, outer.final_ln_out, head_gradient, True)
    layer_norm_parameters_backward(s.dln_out, outer.final_ln_x_hat, dgamma_f, dbeta_f)
    fetch_add(counters, HEAD, 1)
    for i in range(shape.n_layers - 1, -1, -1):
        if shape.recompute:
            block_forward(i, item, model, dropout)
        block = block_activations(item.activations, i, item.shape, shape)
        p, dp = block_parameters(model.parameters, i, shape), block_parameters(gradients, i, shape)
        transposed = transposed_matrices(model.weights, model.transposes, i, shape)
        _drop_backward(s.dx, 2 + 2 * i, item, dropout, s.branch)
        _ffn_backward(s, block, p, transposed, dp, counters, FIRST_BRANCH + 2 * i + 1, item, form)
        _drop_backward(s.dx, 1 + 2 * i, item, dropout, s.branch)
        _attention_backward(s, block, p, transposed, dp, counters, FIRST_BRANCH + 2 * i, item, model)
    _drop_backward(s.dx, 0, item, dropout, s.branch)
    wait_until(counters, EMBEDDING, item.number)
    scatter_add_rows(s.branch, item.packed.input, dE)
    fetch_add(counters, EMBEDDING, 1)


@numba_inlined
def _ffn_backward(s, block, p, transposed, dp, counters, counter, item, form):
    """Backpropagate through a feed-forward branch from the gradient of its output, s.branch.

    The gradients of its parameters are added to dp, that of its input to s.dx.
    """
    round_rows(s.branch, form)
    gemm(s.branch, transposed.W_2, s.hidden, False)
    round_rows(s.hidden, form)
    multiply_in_place(s.hidden, block.gelu_grad)
    round_rows(s.hidden, form)
    gemm(s.hidden, transposed.W_1, s.dln_out, False)
    round_rows(s.dln_out, form)
    wait_until(counters, counter, item.number)
    gemm(block.gelu_out.T, s.branch, dp.W_2, True)
    add_rows(s.branch, dp.b_2)
    gemm(block.ln2_out.T, s.hidden, dp.W_1, True)
    add_rows(s.hidden, dp.b_1)
    layer_norm_parameters_backward(s.dln_out, block.ln2_x_hat, dp.gamma_2, dp.beta_2)
    fetch_add(counters, counter, 1)
    dln_in = s.branch  # the gradient of the branch's output is not needed any more
    layer_norm_backward(s.dln_out, block.ln2_x_hat, block.inverse_std[1], p.gamma_2, dln_in)
    add_in_place(s.dx, dln_in)


@numba_inlined
def _attention_backward(s, block, p, transposed, dp, counters, counter, item, model):
    """Backpropagate through an attention branch, as `_ffn_backward` does through a feed-forward one."""
    packed, form = item.packed, model.form
    round_rows(s.branch, form)
    gemm(s.branch, transposed.W_o, s.dattention_out, False)
    round_rows(s.dattention_out, form)
    q, k, v, scale, weights = block.q, block.k, block.v, model.score_scale, block.attention_weights
    attention_backward(s.dattention_out, q, k, v, packed.starts, weights, scale, s.dq, s.dk, s.dv)
    rotate(s.dq, model.cosine, model.signed_sine_backward, model.half_head, packed.position)
    rotate(s.dk, model.cosine, model.signed_sine_backward, model.half_head, packed.position)
    round_rows(s.dq, form)
    round_rows(s.dk, form)
    round_rows(s.dv, form)
    gemm(s.dq, transposed.W_q, s.dln_out, False)
    gemm(s.dk, transposed.W_k, s.dln_out, True)
    gemm(s.dv, transposed.W_v, s.dln_out, True)
    round_rows(s.dln_out, form)
    wait_until(counters, counter, item.number)
    gemm(block.attention_out.T, s.branch, dp.W_o, True)
    gemm(block.ln1_out.T, s.dq, dp.W_q, True)
    gemm(block.ln1_out.T, s.dk, dp.W_k, True)
    gemm(block.ln1_out.T, s.dv, dp.W_v, True)
    layer_norm_parameters_backward(s.dln_out, block.ln1_x_hat, dp.gamma_1, dp.beta_1)
    fetch_add(counters, counter, 1)
    dln_in = s.branch  # the gradient of the branch's output is not needed any more
    layer_norm_backward(s.dln_out, block.ln1_x_hat, block.inverse_std[0], p.gamma_1, dln_in)
    add_in_place(s.dx, dln_in)


# ---- dropout: site 0 is the embedding, 1 + 2i the attention of block i, 2 + 2i its feed-forward network


@numba_inlined
def _mask_of_site(site, item, width):
    n = item.shape.n_rows
    return item.keep[site * n * width : (site + 1) * n * width].reshape(n, width)


@numba_inlined
def _drop(x, site, item, dropout):
    """Apply dropout to x in place."""
    if not dropout.on:
        return
    keep = _mask_of_site(site, item, x.shape[1])
    dropout_mask(dropout.key, dropout.step, site, dropout.threshold, item.packed.mask_index, keep)
    apply_mask_in_place(x, keep, dropout.scale)


@numba_inlined
def _drop_backward(dx, site, item, dropout, out):
    """out = the gradient of the site's input, dx the gradient of its output."""
    if dropout.on:
        apply_mask(dx, _mask_of_site(site, item, dx.shape[1]), dropout.scale, out)
    else:
        copy(dx, out)
