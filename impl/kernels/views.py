"""Where arrays lie in flat memory: the parameters of MiniGPT (or their gradients), and the activations of a worker.

Each table below gives the names and shapes of arrays in the order of the memory; runtime/split.py makes the views.
"""

from collections import namedtuple
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

BlockParameters = namedtuple(
    "BlockParameters", "W_q W_k W_v W_o W_1 b_1 W_2 b_2 gamma_1 beta_1 gamma_2 beta_2"
)
EmbeddingAndFinalNorm = namedtuple("EmbeddingAndFinalNorm", "E gamma beta")
TransposedMatrices = namedtuple("TransposedMatrices", "W_q W_k W_v W_o W_1 W_2")


@inline_kernel
def _block_table(model):
    """The parameters of a block; names and order are those of impl/model/parameters.py."""
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
    """`BlockParameters` of block i in the flat parameters or gradients of a model."""
    first = model.vocabulary * model.width + i * block_size(model)
    return split(flat[first:], _block_table(model))


@kernel
def embedding_and_final_norm(flat, model):
    """`EmbeddingAndFinalNorm` in the flat parameters or gradients of a model."""
    d, size = model.width, model.vocabulary * model.width
    norm = flat[flat.size - 2 * d :]
    return EmbeddingAndFinalNorm(flat[:size].reshape(model.vocabulary, d), norm[:d], norm[d:])


@kernel
def stores_transposes(model):
    """Whether the matrices of a block are transposed once, before all work items.

    Those of a wide model are not: `gemm` copies blocks of them and transposes these without extra cost, if they have
    whole tiles alone.
    """
    return model.width < WIDE_MODEL or model.width % TILE_COLUMNS > 0 or model.hidden % TILE_COLUMNS > 0


@kernel
def transposed_matrices(parameters, transposes, i, model):
    """`TransposedMatrices` of block i: views, or stored transposes, each at its matrix's place in the parameters."""
    d, f = model.width, model.hidden
    if stores_transposes(model):
        t = block_parameters(transposes, i, model)
        return _with_any_strides(t.W_q, t.W_k, t.W_v, t.W_o, t.W_1.reshape(f, d), t.W_2.reshape(d, f))
    p = block_parameters(parameters, i, model)
    return _with_any_strides(p.W_q.T, p.W_k.T, p.W_v.T, p.W_o.T, p.W_1.T, p.W_2.T)


@inline_kernel
def _with_any_strides(q, k, v, o, w1, w2):
    """`TransposedMatrices` of one type, which does not say whether rows or columns are contiguous."""
    return TransposedMatrices(q[::1, ::1], k[::1, ::1], v[::1, ::1], o[::1, ::1], w1[::1, ::1], w2[::1, ::1])


@inline_kernel
def transposed_embedding(transposes, model):
    """E transposed, [D, V]."""
    return embedding_and_final_norm(transposes, model).E.reshape(model.width, model.vocabulary)


# ---- activations of a work item: `SavedActivations` of every block, then `Scratch`

SavedActivations = namedtuple(
    "SavedActivations",
    "ln1_out ln1_x_hat q k v attention_out post_attention ln2_out ln2_x_hat block_out gelu_out gelu_grad "
    "attention_weights inverse_std",
)
Scratch = namedtuple(
    "Scratch",
    "embedded final_ln_out final_ln_x_hat dx branch dln_out dattention_out dq dk dv hidden logits dlogits "
    "final_inverse_std",
)


@inline_kernel
def _saved_table(item, model):
    """What the forward pass of a block saves for the backward pass."""
    n, d, f, tiles = item.rows, model.width, model.hidden, query_tiles(item.longest)
    return SavedActivations(
        ln1_out=(n, d),
        ln1_x_hat=(n, d),
        q=(n, d),
        k=(n, d),
        v=(n, d),
        attention_out=(n, d),
        post_attention=(n, d),  # the residual stream after attention
        ln2_out=(n, d),
        ln2_x_hat=(n, d),
        block_out=(n, d),  # the residual stream after the block
        gelu_out=(n, f),
        gelu_grad=(n, f),
        attention_weights=(item.sequences, tiles, tiles * QUERY_TILE, model.heads * QUERY_TILE),
        inverse_std=(2, n),  # of both LayerNorms
    )


@inline_kernel
def _scratch_table(item, model):
    """The activations outside the blocks, and buffers that every block reuses."""
    n, d, f, v = item.rows, model.width, model.hidden, model.vocabulary
    return Scratch(
        embedded=(n, d),
        final_ln_out=(n, d),
        final_ln_x_hat=(n, d),
        dx=(n, d),  # the gradient of the residual stream
        branch=(
            n,
            d,
        ),  # what attention or the feed-forward network adds to the residual stream, and its gradient
        dln_out=(n, d),
        dattention_out=(n, d),
        dq=(n, d),
        dk=(n, d),
        dv=(n, d),
        hidden=(n, f),  # the input of GELU, and its gradient
        logits=(n, v),
        dlogits=(n, v),
        final_inverse_std=(n,),
    )


@kernel
def saved_activations(workspace, i, item, model):
    """`SavedActivations` of block i in the memory of a worker."""
    table = _saved_table(item, model)
    return split(workspace[i * table_size(table) :], table)


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
