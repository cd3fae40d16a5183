"""Where arrays lie in flat memory: the parameters of MiniGPT (or their gradients), and the activations of a worker.

A table below has the names and shapes of arrays in the order of the memory; runtime/named_views.py makes the views.
"""

from collections import namedtuple
from typing import Any, NamedTuple

from impl.kernels.attention import QUERY_BLOCK, query_blocks
from impl.kernels.gemm import TILE_COLUMNS
from impl.kernels.runtime.compile import kernel, numba_inlined
from impl.kernels.runtime.named_views import split, table_size

Array = Any

WIDE_MODEL = 256
"""From this d_model on, the matrices of a block do not fit into a core's cache."""


class ModelShape(NamedTuple):
    """The sizes of a model, named as in impl.config.ModelConfig."""

    n_layers: int
    n_heads: int
    d_model: int
    d_ff: int
    vocab_size: int
    recompute: bool
    """Whether the blocks share one place for their activations, and the backward pass computes each block again."""


class ItemShape(NamedTuple):
    """The sizes of a work item: some consecutive sequences of a batch, packed into rows."""

    n_rows: int
    n_sequences: int
    longest: int
    """The most rows that a sequence has."""


# ---- parameters and gradients: E, then every block, then gamma and beta of the final LayerNorm

BlockParameters = namedtuple(
    "BlockParameters", "W_q W_k W_v W_o W_1 b_1 W_2 b_2 gamma_1 beta_1 gamma_2 beta_2"
)
EmbeddingAndFinalNorm = namedtuple("EmbeddingAndFinalNorm", "E gamma beta")
TransposedMatrices = namedtuple("TransposedMatrices", "W_q W_k W_v W_o W_1 W_2")


@numba_inlined
def _block_table(shape):
    """The parameters of a block; names and order are those of impl/model/parameters.py."""
    d, f = shape.d_model, shape.d_ff
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
def block_size(shape):
    """The number of parameters of a block."""
    return table_size(_block_table(shape))


@kernel
def block_parameters(flat, i, shape):
    """`BlockParameters` of block i in the flat parameters or gradients of a model."""
    first = shape.vocab_size * shape.d_model + i * block_size(shape)
    return split(flat[first:], _block_table(shape))


@kernel
def embedding_and_final_norm(flat, shape):
    """`EmbeddingAndFinalNorm` in the flat parameters or gradients of a model."""
    d, size = shape.d_model, shape.vocab_size * shape.d_model
    norm = flat[flat.size - 2 * d :]
    return EmbeddingAndFinalNorm(flat[:size].reshape(shape.vocab_size, d), norm[:d], norm[d:])


@kernel
def stores_transposes(shape):
    """Whether the matrices of a block are transposed once, before all work items.

    False if d_model >= WIDE_MODEL, and d_model and d_ff are multiples of TILE_COLUMNS. Then `gemm` packs B in any case,
    and transposes while it packs.
    """
    return shape.d_model < WIDE_MODEL or shape.d_model % TILE_COLUMNS > 0 or shape.d_ff % TILE_COLUMNS > 0


@kernel
def transposed_matrices(parameters, transposes, i, shape):
    """`TransposedMatrices` of block i: views, or stored transposes, each at its matrix's place in the parameters."""
    d, f = shape.d_model, shape.d_ff
    if stores_transposes(shape):
        t = block_parameters(transposes, i, shape)  # its W_1 has the shape [d, f], but stores W_1^T [f, d]
        return _with_any_strides(t.W_q, t.W_k, t.W_v, t.W_o, t.W_1.reshape(f, d), t.W_2.reshape(d, f))
    p = block_parameters(parameters, i, shape)
    return _with_any_strides(p.W_q.T, p.W_k.T, p.W_v.T, p.W_o.T, p.W_1.T, p.W_2.T)


@numba_inlined
def _with_any_strides(q, k, v, o, w1, w2):
    """`TransposedMatrices` of layout "A" (any strides): slicing with [::1] turns numba's layouts "C" and "F" into it.

    A function may return only one type, so views and stored transposes must have the same.
    """
    return TransposedMatrices(q[::1, ::1], k[::1, ::1], v[::1, ::1], o[::1, ::1], w1[::1, ::1], w2[::1, ::1])


@numba_inlined
def transposed_embedding(transposes, shape):
    """E transposed, [D, V]."""
    return embedding_and_final_norm(transposes, shape).E.reshape(shape.d_model, shape.vocab_size)


# ---- a worker's memory: `BlockActivations` of every block, or of one; `Scratch`; if there is one place for all blocks,
# `BlockInput` of each but the first; `OuterActivations`

BlockActivations = namedtuple(
    "BlockActivations",
    "block_out ln1_out ln1_x_hat q k v attention_out post_attention ln2_out ln2_x_hat gelu_out gelu_grad "
    "attention_weights inverse_std",
)
BlockInput = namedtuple("BlockInput", "x")
Scratch = namedtuple("Scratch", "dx branch dln_out dattention_out dq dk dv hidden")
OuterActivations = namedtuple(
    "OuterActivations", "embedded final_ln_out final_ln_x_hat logits dlogits final_inverse_std"
)


@numba_inlined
def _block_activations_table(item_shape, shape):
    """What the forward pass of a block writes; the backward pass reads all but the two marked "forward only"."""
    n, d, f, blocks = item_shape.n_rows, shape.d_model, shape.d_ff, query_blocks(item_shape.longest)
    weights = item_shape.n_sequences, blocks, blocks * QUERY_BLOCK, shape.n_heads * QUERY_BLOCK
    return BlockActivations(
        block_out=(n, d),  # forward only: the residual stream after the block; first, for `block_input`
        ln1_out=(n, d),
        ln1_x_hat=(n, d),
        q=(n, d),
        k=(n, d),
        v=(n, d),
        attention_out=(n, d),
        post_attention=(n, d),  # forward only: the residual stream after attention
        ln2_out=(n, d),
        ln2_x_hat=(n, d),
        gelu_out=(n, f),
        gelu_grad=(n, f),
        attention_weights=weights,
        inverse_std=(2, n),  # of both LayerNorms
    )


@numba_inlined
def _scratch_table(item_shape, shape):
    """Buffers that every block overwrites; all but `branch` and `hidden` are of the backward pass alone."""
    n, d, f = item_shape.n_rows, shape.d_model, shape.d_ff
    return Scratch(
        dx=(n, d),  # the gradient of the residual stream
        branch=(n, d),  # what attention or the FFN adds to the residual stream; backward: its gradient
        dln_out=(n, d),
        dattention_out=(n, d),
        dq=(n, d),
        dk=(n, d),
        dv=(n, d),
        hidden=(n, f),  # the input of GELU; backward: its gradient
    )


@numba_inlined
def _outer_activations_table(item_shape, shape):
    """The activations before the first block and after the last; `embedded` is not read by the backward pass."""
    n, d, v = item_shape.n_rows, shape.d_model, shape.vocab_size
    return OuterActivations(
        embedded=(n, d),
        final_ln_out=(n, d),
        final_ln_x_hat=(n, d),
        logits=(n, v),
        dlogits=(n, v),
        final_inverse_std=(n,),
    )


@kernel
def kept_blocks(shape):
    """How many blocks have a place of their own for their activations."""
    return 1 if shape.recompute else shape.n_layers


@kernel
def block_activations(workspace, i, item_shape, shape):
    """`BlockActivations` of block i in the memory of a worker."""
    table = _block_activations_table(item_shape, shape)
    return split(workspace[i % kept_blocks(shape) * table_size(table) :], table)


@kernel
def scratch(workspace, item_shape, shape):
    """`Scratch` in the memory of a worker."""
    first = kept_blocks(shape) * table_size(_block_activations_table(item_shape, shape))
    return split(workspace[first:], _scratch_table(item_shape, shape))


@numba_inlined
def _block_input_table(item_shape, shape):
    return BlockInput(x=(item_shape.n_rows, shape.d_model))


@kernel
def block_input(workspace, i, item_shape, shape):
    """`BlockInput` of block i: `embedded` of the first, else `block_out` of the block before, or the copy of it."""
    table = _block_input_table(item_shape, shape)
    first = (i - 1) * table_size(_block_activations_table(item_shape, shape))
    if i == 0:
        first = workspace_size(item_shape, shape) - table_size(_outer_activations_table(item_shape, shape))
    elif shape.recompute:
        first = table_size(_block_activations_table(item_shape, shape))
        first += table_size(_scratch_table(item_shape, shape)) + (i - 1) * table_size(table)
    return split(workspace[first:], table)


@kernel
def outer_activations(workspace, item_shape, shape):
    """`OuterActivations` in the memory of a worker."""
    table = _outer_activations_table(item_shape, shape)
    return split(workspace[workspace_size(item_shape, shape) - table_size(table) :], table)


@kernel
def workspace_size(item_shape, shape):
    """The number of elements that a worker needs for the activations of a work item."""
    blocks = kept_blocks(shape) * table_size(_block_activations_table(item_shape, shape))
    inputs = (shape.n_layers - kept_blocks(shape)) * table_size(_block_input_table(item_shape, shape))
    buffers = table_size(_scratch_table(item_shape, shape)) + inputs
    return blocks + buffers + table_size(_outer_activations_table(item_shape, shape))
