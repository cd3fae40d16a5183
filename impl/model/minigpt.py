"""MiniGPT: a pre-LayerNorm decoder with rotary positions and a tied head; its parameters and their gradients.

This file checks batches, keeps the workers' memory and starts the threads. The passes over a work item are in
kernels/forward_backward.py; how a batch is divided into work items is in kernels/batch_worker.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.config import LossConfig, ModelConfig
from impl.data.iterator import Batch
from impl.kernels import elementwise, memory_layout, parameter_passes
from impl.kernels.batch_worker import (
    ACCUMULATORS,
    SEQUENCES_PER_GROUP,
    Results,
    Workspace,
    counter_count,
    run_worker,
    sequences_per_item,
)
from impl.kernels.forward_backward import TRANSPOSE_CLAIMED, TRANSPOSE_DONE, Model, Objective, copy_outputs
from impl.kernels.half_precision import FORMS, FULL, round_flat
from impl.kernels.memory_layout import ItemShape, ModelShape
from impl.kernels.packing import BatchArrays, PackedRows, has_out_of_vocab, round_up_to_tile_rows
from impl.kernels.runtime.memory import aligned_zeros
from impl.kernels.runtime.thread_pool import ThreadPool, default_pool
from impl.model.dropout import NO_DROPOUT, Dropout
from impl.model.language_model import LanguageModel
from impl.model.parameters import parameter_shapes
from impl.model.rotary import Rotary

if TYPE_CHECKING:  # only type checkers need jaxtyping, and importing it takes time
    from jaxtyping import Bool, Float, Int

Array = np.ndarray[Any, np.dtype[Any]]


class MiniGPT(LanguageModel):
    """Logits are [B, T, V].

    `finish_gradients` writes the sum of the accumulators to `flat_gradients` and zeroes them. A second call without
    `accumulate` in between gives zero gradients.
    """

    def __init__(
        self,
        config: ModelConfig,
        dtype: str,
        parameters: Mapping[str, Array],
        pool: ThreadPool | None = None,
        *,
        autocast: str = "none",
        recompute: bool = False,
        loss: LossConfig | None = None,
    ) -> None:
        """`autocast`: the 16-bit type to which operands and results of matrix products are rounded where
        gradients are computed, or "none".

        `recompute`: keep the inputs of the blocks alone, and compute each block again in the backward pass.
        """
        super().__init__(dtype, parameter_shapes(config), parameters)
        self.config, self._loss = config, loss or LossConfig()
        self.penalised = self._loss.label_smoothing > 0.0 or self._loss.z_loss > 0.0
        self._pool = pool or default_pool()
        sizes = config.n_layers, config.n_heads, config.d_model, config.d_ff, config.vocab_size
        self._shape = ModelShape(*sizes, recompute)
        self._form = FORMS[autocast]
        count = self.flat_parameters.size
        self.accumulators = (
            aligned_zeros((ACCUMULATORS, count), dtype),
            aligned_zeros((ACCUMULATORS, *self.shapes["E"]), dtype),
        )
        """The gradients while they are summed: of all parameters (of E as the embedding), and of E as the tied head.

        `Results` in kernels/batch_worker.py says why these two are apart; `finish_gradients` adds them.
        """
        self._accumulated = False
        self._transposes = aligned_zeros(count, dtype)
        self._weights = aligned_zeros(count, dtype) if self._form else self.flat_parameters
        self._workspaces: dict[int, Workspace] = {}
        self._counter_count = counter_count(self._shape)

    @cached_property
    def rotary(self) -> Rotary:
        """The tables of the rotary positions, for the whole context."""
        config = self.config
        head_size = config.d_model // config.n_heads
        return Rotary.tables(config.context, config.n_heads, head_size, config.rope_base, self.dtype)

    # ---- losses and gradients

    def zero_gradients(self) -> None:
        self.penalty = 0.0
        if self._accumulated:  # otherwise `finish_gradients` has zeroed them
            for accumulator in self.accumulators:
                accumulator[:] = 0.0
            self._accumulated = False

    def accumulate(
        self, batch: Batch, dropout: Dropout, tokens: int, running_nll: float = 0.0, scale: float = 1.0
    ) -> float:
        self._accumulated = True
        return self._losses(batch, dropout, running_nll, scale / max(tokens, 1), with_gradients=True)

    def finish_gradients(self) -> float:
        gradients, head_gradients = self.accumulators
        squares = np.empty(parameter_passes.chunk_count(self.flat_gradients.size))
        arrays = gradients, head_gradients.reshape(ACCUMULATORS, -1), self.flat_gradients, squares
        self._pool.run_chunks(parameter_passes.finish_gradients, self.flat_gradients.size, *arrays)
        self._accumulated = False
        return float(parameter_passes.total_squares(squares))

    def block_passes(self) -> list[int]:
        """How often each block has been computed for each work item, since the model was made."""
        *blocks, items = np.sum([workspace.passes for workspace in self._workspaces.values()], axis=0)
        return [int(passes) // max(int(items), 1) for passes in blocks]

    def workspace_bytes(self) -> int:
        """What the activations and dropout masks of one worker take."""
        workspace = self._workspace(0)
        return int(workspace.activations.nbytes + workspace.keep.nbytes)

    def nll(self, batch: Batch, running_nll: float = 0.0) -> float:
        return self._losses(batch, NO_DROPOUT, running_nll, 0.0, with_gradients=False)

    def _losses(
        self,
        batch: Batch,
        dropout: Dropout,
        running_nll: float,
        loss_scale: float,
        *,
        with_gradients: bool,
        reuse_transposes: bool = False,
    ) -> float:
        """`running_nll` plus the losses of a batch, added one after the other.

        `with_gradients`: accumulate the gradients of `loss_scale` times the sum of the losses. `reuse_transposes`: skip
        the transposition, as the parameters are unchanged since the last call.
        """
        arrays = self._checked(batch, dropout.sequence_offset)
        model = self._model if with_gradients else self._model_in_full
        if with_gradients and self._form:
            self._weights[:] = self.flat_parameters
            round_flat(self._weights, self._form)
        losses = np.empty(batch.input.shape)
        penalised = with_gradients and self.penalised
        penalties = np.empty(batch.input.shape if penalised else (0, batch.input.shape[1]))
        counters = np.zeros((ACCUMULATORS, self._counter_count), np.int64)
        counters[0, [TRANSPOSE_CLAIMED, TRANSPOSE_DONE]] = reuse_transposes
        results = Results(losses, penalties, *self.accumulators, counters)
        params = dropout.params(self.config.context, self.dtype)
        scale = np.dtype(self.dtype).type(loss_scale)

        def work(worker: int) -> None:
            workspace = self._workspace(worker)
            run_worker(worker, arrays, model, params, workspace, results, scale, with_gradients)

        items = -(-len(batch.input) // sequences_per_item(batch.input.shape[1], self.config.d_model))
        self._pool.run(work, items, counters)
        if penalised:
            self.penalty = float(elementwise.sum_in_order(self.penalty, penalties.reshape(-1)))
        return float(elementwise.sum_in_order(running_nll, losses.reshape(-1)))

    def _checked(self, batch: Batch, sequence_offset: int) -> BatchArrays:
        """The batch for the kernels, which do not check bounds. ValueError if they would read outside an array."""
        input, target = (as_contiguous(x, np.int64) for x in (batch.input, batch.target))
        loss_mask, key_mask = (as_contiguous(x, np.bool_) for x in (batch.loss_mask, batch.key_mask))
        arrays, config = BatchArrays(input, target, loss_mask, key_mask, sequence_offset), self.config
        shapes = {x.shape for x in arrays[:4]}
        if len(shapes) > 1:
            raise ValueError(f"a batch of arrays of different shapes: {sorted(shapes)}")
        if (length := arrays.input.shape[1]) > config.context:
            raise ValueError(f"{length} tokens a row; the model's context is {config.context}")
        if has_out_of_vocab(arrays, config.vocab_size):
            read = np.concatenate([arrays.input.reshape(-1), arrays.target[arrays.loss_mask]])
            raise ValueError(f"tokens from {read.min()} to {read.max()}; the model has {config.vocab_size}")
        return arrays

    # ---- the output of each layer

    def forward(
        self, tokens: Int[np.ndarray, "B T"], key_mask: Bool[np.ndarray, "B T"]
    ) -> Float[np.ndarray, "B T V"]:
        """Logits without dropout."""
        return self.forward_layers(tokens, key_mask)["logits"]

    def forward_layers(
        self, tokens: Int[np.ndarray, "B T"], key_mask: Bool[np.ndarray, "B T"]
    ) -> dict[str, Array]:
        """The output of each layer: embed_out, block_i_out, final_ln_out [B, T, D] and logits [B, T, V]."""
        names = ["embed_out", *(f"block_{i}_out" for i in range(self.config.n_layers)), "final_ln_out"]
        (sequences, length), d_model = tokens.shape, self.config.d_model
        layer_outputs = np.zeros((len(names), sequences, length, d_model), self.dtype)
        logits = np.zeros((sequences, length, self.config.vocab_size), self.dtype)
        size = sequences_per_item(length, d_model)
        for start in range(0, sequences if length else 0, size):
            item = slice(start, start + size)
            layer_outputs[:, item], logits[item] = self._item_outputs(tokens[item], key_mask[item], start > 0)
        return dict(zip(names, layer_outputs, strict=True)) | {"logits": logits}

    def _item_outputs(self, tokens: Array, key_mask: Array, reuse_transposes: bool) -> tuple[Array, Array]:
        """Layer outputs [layers + 2, B, T, D] and logits [B, T, V] of the sequences of one work item.

        A single item runs on worker 0, whose workspace then holds its activations.
        """
        everywhere = np.ones(
            tokens.shape, np.bool_
        )  # `pack` cuts a sequence after its last position in the loss mask
        batch = Batch(tokens, np.zeros_like(tokens), everywhere, key_mask)
        self._losses(batch, NO_DROPOUT, 0.0, 0.0, with_gradients=False, reuse_transposes=reuse_transposes)
        layer_outputs = np.empty((self.config.n_layers + 2, tokens.size, self.config.d_model), self.dtype)
        logits = np.empty((tokens.size, self.config.vocab_size), self.dtype)
        item_shape = ItemShape(round_up_to_tile_rows(tokens.size), *tokens.shape)
        copy_outputs(self._workspaces[0].activations, item_shape, self._shape, layer_outputs, logits)
        layer_outputs = layer_outputs.reshape(-1, *tokens.shape, self.config.d_model)
        return layer_outputs, logits.reshape(*tokens.shape, -1)

    # ---- the arguments of the kernels

    @cached_property
    def _model(self) -> Model:
        config, number, rotary = self.config, np.dtype(self.dtype).type, self.rotary
        return Model(
            shape=self._shape,
            parameters=self.flat_parameters,
            weights=self._weights,
            form=self._form,
            transposes=self._transposes,
            cosine=rotary.cosine,
            signed_sine=rotary.signed_sine,
            signed_sine_backward=rotary.signed_sine_backward,
            half_head=rotary.half_head,
            norm_eps=number(config.ln_eps),
            score_scale=number(1.0 / np.sqrt(config.d_model // config.n_heads)),
            window=config.window,
            objective=Objective(config.softcap, self._loss.label_smoothing, self._loss.z_loss),
        )

    @cached_property
    def _model_in_full(self) -> Model:
        """Without autocast: an evaluation computes in the type of the parameters."""
        return self._model._replace(weights=self.flat_parameters, form=FULL)

    def _workspace(self, worker: int) -> Workspace:
        """The memory of a worker, for any work item; the system assigns pages only to what an item has used."""
        if worker not in self._workspaces:
            self._workspaces[worker] = self._new_workspace()
        return self._workspaces[worker]

    def _new_workspace(self) -> Workspace:
        config = self.config
        item_shapes = [self._largest_item_shape(length) for length in range(1, config.context + 1)]
        size = max(memory_layout.workspace_size(item_shape, self._shape) for item_shape in item_shapes)
        n_rows, sites = max(item_shape.n_rows for item_shape in item_shapes), 2 * config.n_layers + 1
        starts = np.zeros(SEQUENCES_PER_GROUP + 1, np.int64)
        ints, bools = np.zeros((4, n_rows), np.int64), np.zeros((2, n_rows), np.bool_)
        return Workspace(
            activations=aligned_zeros(size, self.dtype),
            keep=aligned_zeros(sites * n_rows * config.d_model, np.bool_),
            packed=PackedRows(starts, ints[0], ints[1], bools[0], bools[1], ints[2], ints[3]),
            losses=aligned_zeros(n_rows, np.float64),
            passes=aligned_zeros(config.n_layers + 1, np.int64),
        )

    def _largest_item_shape(self, length: int) -> ItemShape:
        """The shape of the largest work item of a batch of this length."""
        sequences = sequences_per_item(length, self.config.d_model)
        return ItemShape(round_up_to_tile_rows(sequences * length), sequences, length)


def as_contiguous(x: Array, dtype: Any) -> Array:
    """x as the array type that kernels are compiled for: contiguous, and writable though they do not write to it."""
    return np.require(x, dtype, ["C", "W"])
