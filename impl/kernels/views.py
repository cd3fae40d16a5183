"""Where arrays lie in flat memory: the parameters of MiniGPT (or their gradients), and the activations of a worker.

Each table below gives the names and shapes of arrays in their order in memory; runtime/split.py makes the views.
"""

from typing import Any, NamedTuple

from impl.kernels.attention import QUERY_TILE, query_tiles
from impl.kernels.gemm import TILE_COLUMNS
from impl.kernels.runtime.compile import inline_kernel, kernel
from impl.kernels.runtime.split import split, table_size

Array = Any

WIDE_MODEL = 256
"""From this d_model on, the matrices of a block do not fit into a core's cache."""


class ModelShape(NamedTuple):
    """The sizes of a model."""

    layers: int
    heads: int
    width: int
    hidden: int
    vocabulary: int


class ItemShape(NamedTuple):
    """The sizes of a work item: some consecutive sequences of a batch, packed into rows."""

    rows: int
    sequences: int
    longest: int
    """The most rows that a sequence has."""


# ---- parameters and gradients: E, then every block, then gamma and beta of the final LayerNorm


class BlockParameters(NamedTuple):
    """The parameters of a block, with the names and the order of impl/model/parameters.py."""

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


@inline_kernel
def _block_table(model):
    d, f = model.width, model.hidden
    return BlockParameters(
        W_q=(d, d),
        W_k=(d, d),
        W_v=(d, d),
        W_o=(d, d),
        W_1=(d, f),
        b_1=(f,),
        W_2=(f, d),
        b_2=(d,),
        gamma_1=(d,),
        beta_1=(d,),
        gamma_2=(d,),
        beta_2=(d,),
    )


@kernel
def block_size(model):
    """How many numbers the parameters of a block have."""
    return table_size(_block_table(model))


@kernel
def block_parameters(flat, i, model):
    """Block i of the flat parameters or gradients of a model."""
    first = model.vocabulary * model.width + i * block_size(model)
    return split(flat[first:], _block_table(model))


class EmbeddingAndFinalNorm(NamedTuple):
    """The parameters before the first block and after the last."""

    E: Array
    gamma: Array
    beta: Array


@kernel
def embedding_and_final_norm(flat, model):
    """`EmbeddingAndFinalNorm` of the flat parameters or gradients of a model."""
    d, size = model.width, model.vocabulary * model.width
    norm = flat[flat.size - 2 * d :]
    return EmbeddingAndFinalNorm(flat[:size].reshape(model.vocabulary, d), norm[:d], norm[d:])


class TransposedMatrices(NamedTuple):
    """The transposed matrices of a block: copies with contiguous rows, or views with contiguous columns."""

    W_q: Array
    W_k: Array
    W_v: Array
    W_o: Array
    W_1: Array
    W_2: Array


@kernel
def stores_transposes(model):
    """Whether the matrices of a block are transposed once, before all work items.

    Those of a wide model are not: `gemm` copies blocks of them and transposes these without extra cost, if they have
    whole tiles alone.
    """
    return model.width < WIDE_MODEL or model.width % TILE_COLUMNS > 0 or model.hidden % TILE_COLUMNS > 0


@kernel
def transposed_matrices(parameters, transposes, i, model):
    """`TransposedMatrices` of block i; a stored transpose lies where its matrix lies in the parameters."""
    d, f = model.width, model.hidden
    if stores_transposes(model):
        t = block_parameters(transposes, i, model)
        return TransposedMatrices(
            W_q=_any_strides(t.W_q),
            W_k=_any_strides(t.W_k),
            W_v=_any_strides(t.W_v),
            W_o=_any_strides(t.W_o),
            W_1=_any_strides(t.W_1.reshape(f, d)),
            W_2=_any_strides(t.W_2.reshape(d, f)),
        )
    p = block_parameters(parameters, i, model)
    return TransposedMatrices(
        W_q=_any_strides(p.W_q.T),
        W_k=_any_strides(p.W_k.T),
        W_v=_any_strides(p.W_v.T),
        W_o=_any_strides(p.W_o.T),
        W_1=_any_strides(p.W_1.T),
        W_2=_any_strides(p.W_2.T),
    )


@inline_kernel
def _any_strides(x):
    """The same array; numba's type of it does not say that its rows or columns are contiguous."""
    return x[::1, ::1]


@inline_kernel
def transposed_embedding(transposes, model):
    """E transposed, [D, V]."""
    return embedding_and_final_norm(transposes, model).E.reshape(model.width, model.vocabulary)


# ---- activations of a work item: `SavedActivations` of every block, then `Scratch`


class SavedActivations(NamedTuple):
    """What the forward pass of a block saves for the backward pass."""

    ln1_out: Array
    ln1_x_hat: Array
    q: Array
    k: Array
    v: Array
    attention_out: Array
    post_attention: Array
    """The residual stream after attention."""
    ln2_out: Array
    ln2_x_hat: Array
    block_out: Array
    """The residual stream after the block."""
    gelu_out: Array
    gelu_grad: Array
    attention_weights: Array
    """See `attention`."""
    inverse_std: Array
    """Of both LayerNorms."""


@inline_kernel
def _saved_table(item, model):
    n, d, f, tiles = item.rows, model.width, model.hidden, query_tiles(item.longest)
    return SavedActivations(
        ln1_out=(n, d),
        ln1_x_hat=(n, d),
        q=(n, d),
        k=(n, d),
        v=(n, d),
        attention_out=(n, d),
        post_attention=(n, d),
        ln2_out=(n, d),
        ln2_x_hat=(n, d),
        block_out=(n, d),
        gelu_out=(n, f),
        gelu_grad=(n, f),
        attention_weights=(item.sequences, tiles, tiles * QUERY_TILE, model.heads * QUERY_TILE),
        inverse_std=(2, n),
    )


@kernel
def saved_activations(workspace, i, item, model):
    """`SavedActivations` of block i in the memory of a worker."""
    table = _saved_table(item, model)
    return split(workspace[i * table_size(table) :], table)


class Scratch(NamedTuple):
    """The activations outside the blocks, and buffers that every block reuses."""

    embedded: Array
    final_ln_out: Array
    final_ln_x_hat: Array
    dx: Array
    """The gradient of the residual stream."""
    branch: Array
    """Forward: what attention or the feed-forward network adds to the residual stream; backward: its gradient."""
    dln_out: Array
    dattention_out: Array
    dq: Array
    dk: Array
    dv: Array
    hidden: Array
    """Forward: the input of GELU; backward: its gradient."""
    logits: Array
    dlogits: Array
    final_inverse_std: Array


@inline_kernel
def _scratch_table(item, model):
    n, d, f, v = item.rows, model.width, model.hidden, model.vocabulary
    return Scratch(
        embedded=(n, d),
        final_ln_out=(n, d),
        final_ln_x_hat=(n, d),
        dx=(n, d),
        branch=(n, d),
        dln_out=(n, d),
        dattention_out=(n, d),
        dq=(n, d),
        dk=(n, d),
        dv=(n, d),
        hidden=(n, f),
        logits=(n, v),
        dlogits=(n, v),
        final_inverse_std=(n,),
    )


@kernel
def scratch(workspace, item, model):
    """`Scratch` in the memory of a worker."""
    return split(
        workspace[model.layers * table_size(_saved_table(item, model)) :], _scratch_table(item, model)
    )


@kernel
def workspace_size(item, model):
    """How many numbers a worker needs for a work item."""
    return model.layers * table_size(_saved_table(item, model)) + table_size(_scratch_table(item, model))
