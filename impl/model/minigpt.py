"""MiniGPT: a pre-LayerNorm decoder with rotary positions and a tied head; its parameters and their gradients.

This file checks batches, keeps the workers' memory and starts the threads. The passes over a work item are in
kernels/forward_backward.py; how a batch is divided into work items is in kernels/worker.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.config import ModelConfig
from impl.data.iterator import Batch
from impl.kernels import elementwise, parallel, views
from impl.kernels.forward_backward import TRANSPOSE_CLAIMED, TRANSPOSE_DONE, Model, copy_outputs
from impl.kernels.packing import BatchArrays, PackedRows, has_out_of_vocab, round_up_to_tile
from impl.kernels.runtime.memory import aligned_zeros
from impl.kernels.runtime.thread_pool import ThreadPool, default_pool
from impl.kernels.views import ItemShape, ModelShape
from impl.kernels.worker import (
    ACCUMULATORS,
    SEQUENCES_PER_GROUP,
    Results,
    Workspace,
    counter_count,
    run_worker,
    sequences_per_item,
)
from impl.model.dropout import NO_DROPOUT, Dropout
from impl.model.language_model import LanguageModel
from impl.model.parameters import parameter_shapes
from impl.model.rotary import Rotary

if TYPE_CHECKING:  # only type checkers need jaxtyping, and importing it takes time
    from jaxtyping import Bool, Float, Int

Array = np.ndarray[Any, np.dtype[Any]]


class MiniGPT(LanguageModel):
    """Logits are [B, T, V]. `finish_gradients` clears the accumulators, so the next one is that of an empty update."""

    def __init__(
        self, config: ModelConfig, dtype: str, parameters: Mapping[str, Array], pool: ThreadPool | None = None
    ) -> None:
        super().__init__(dtype, parameter_shapes(config), parameters)
        self.config = config
        self._pool = pool or default_pool()
        sizes = config.n_layers, config.n_heads, config.d_model, config.d_ff, config.vocab_size
        self._shape = ModelShape(*sizes)
        count = self.flat_parameters.size
        self.accumulators = (
            aligned_zeros((ACCUMULATORS, count), dtype),
            aligned_zeros((ACCUMULATORS, *self.shapes["E"]), dtype),
        )
        """The gradients while they are summed: of all parameters, and apart from them those of E as the tied head."""
        self._accumulated = False
        self._transposes = aligned_zeros(count, dtype)
        self._workspaces: dict[int, Workspace] = {}
        self._counter_count = counter_count(self._shape)

    @cached_property
    def _rotary(self) -> Rotary:
        config = self.config
        head_size = config.d_model // config.n_heads
        return Rotary.tables(config.context, config.n_heads, head_size, config.rope_base, self.dtype)

    # ---- losses and gradients

    def zero_gradients(self) -> None:
        if self._accumulated:  # otherwise `finish_gradients` has cleared them
            for accumulator in self.accumulators:
                accumulator[:] = 0.0
            self._accumulated = False

    def accumulate(self, batch: Batch, dropout: Dropout, tokens: int, nll: float = 0.0) -> float:
        self._accumulated = True
        return self._losses(batch, dropout, nll, 1.0 / max(tokens, 1), with_gradients=True)

    def finish_gradients(self) -> float:
        gradients, head_gradients = self.accumulators
        squares = np.empty(parallel.chunk_count(self.flat_gradients.size))
        arrays = gradients, head_gradients.reshape(ACCUMULATORS, -1), self.flat_gradients, squares
        self._pool.run_chunks(parallel.finish_gradients, self.flat_gradients.size, *arrays)
        self._accumulated = False
        return float(parallel.total_squares(squares))

    def nll(self, batch: Batch, nll: float = 0.0) -> float:
        return self._losses(batch, NO_DROPOUT, nll, 0.0, with_gradients=False)

    def _losses(
        self,
        batch: Batch,
        dropout: Dropout,
        nll: float,
        weight: float,
        *,
        with_gradients: bool,
        transposes_done: bool = False,
    ) -> float:
        """`nll` plus the losses of a batch; `with_gradients`, accumulate those of `weight` times the sum of the losses.

        With `transposes_done` the transposed matrices are those of the call before.
        """
        arrays, model = self._checked(batch, dropout.first_sequence), self._model
        losses = np.empty(batch.input.shape)
        counters = np.zeros((ACCUMULATORS, self._counter_count), np.int64)
        counters[0, [TRANSPOSE_CLAIMED, TRANSPOSE_DONE]] = transposes_done
        results = Results(losses, *self.accumulators, counters)
        params = dropout.params(self.config.context, self.dtype)
        rounded = np.dtype(self.dtype).type(weight)

        def work(worker: int) -> None:
            workspace = self._workspace(worker)
            run_worker(worker, arrays, model, params, workspace, results, rounded, with_gradients)

        items = -(-len(batch.input) // sequences_per_item(batch.input.shape[1], self.config.d_model))
        self._pool.run(work, items, counters)
        return float(elementwise.sum_in_order(nll, losses.reshape(-1)))

    def _checked(self, batch: Batch, first_sequence: int) -> BatchArrays:
        """The batch for the kernels, which do not check bounds. ValueError if they would read outside an array."""
        input, target = (as_contiguous(x, np.int64) for x in (batch.input, batch.target))
        loss_mask, key_mask = (as_contiguous(x, np.bool_) for x in (batch.loss_mask, batch.key_mask))
        arrays, config = BatchArrays(input, target, loss_mask, key_mask, first_sequence), self.config
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
        (sequences, length), width = tokens.shape, self.config.d_model
        streams = np.zeros((len(names), sequences, length, width), self.dtype)
        logits = np.zeros((sequences, length, self.config.vocab_size), self.dtype)
        size = sequences_per_item(length, width)
        for start in range(0, sequences if length else 0, size):
            item = slice(start, start + size)
            streams[:, item], logits[item] = self._outputs(tokens[item], key_mask[item], start > 0)
        return dict(zip(names, streams, strict=True)) | {"logits": logits}

    def _outputs(self, tokens: Array, key_mask: Array, transposes_done: bool) -> tuple[Array, Array]:
        """The same for the sequences of one work item: [layers + 2, B, T, D] and logits."""
        batch = Batch(tokens, np.zeros_like(tokens), np.ones(tokens.shape, np.bool_), key_mask)
        self._losses(batch, NO_DROPOUT, 0.0, 0.0, with_gradients=False, transposes_done=transposes_done)
        streams = np.empty((self.config.n_layers + 2, tokens.size, self.config.d_model), self.dtype)
        logits = np.empty((tokens.size, self.config.vocab_size), self.dtype)
        item = ItemShape(round_up_to_tile(tokens.size), *tokens.shape)
        copy_outputs(self._workspaces[0].activations, item, self._shape, streams, logits)
        return streams.reshape(-1, *tokens.shape, streams.shape[-1]), logits.reshape(*tokens.shape, -1)

    # ---- the arguments of the kernels

    @cached_property
    def _model(self) -> Model:
        config, number, rotary = self.config, np.dtype(self.dtype).type, self._rotary
        return Model(
            shape=self._shape,
            parameters=self.flat_parameters,
            transposes=self._transposes,
            cosine=rotary.cosine,
            sine=rotary.sine,
            negative_sine=rotary.negative_sine,
            half_head=rotary.half_head,
            norm_eps=number(config.ln_eps),
            score_scale=number(1.0 / np.sqrt(config.d_model // config.n_heads)),
        )

    def _workspace(self, worker: int) -> Workspace:
        """The memory of a worker, for any work item; the system assigns pages only to what an item has used."""
        if worker not in self._workspaces:
            self._workspaces[worker] = self._new_workspace()
        return self._workspaces[worker]

    def _new_workspace(self) -> Workspace:
        config = self.config
        items = [self._largest_item(length) for length in range(1, config.context + 1)]
        size = max(views.workspace_size(item, self._shape) for item in items)
        rows, sites = max(item.rows for item in items), 2 * config.n_layers + 1
        starts = np.zeros(SEQUENCES_PER_GROUP + 1, np.int64)
        ints, bools = np.zeros((4, rows), np.int64), np.zeros((2, rows), np.bool_)
        return Workspace(
            activations=aligned_zeros(size, self.dtype),
            keep=aligned_zeros(sites * rows * config.d_model, np.bool_),
            rows=PackedRows(starts, ints[0], ints[1], bools[0], bools[1], ints[2], ints[3]),
            losses=aligned_zeros(rows, np.float64),
        )

    def _largest_item(self, length: int) -> ItemShape:
        """The largest work item of a batch of this length."""
        sequences = sequences_per_item(length, self.config.d_model)
        return ItemShape(round_up_to_tile(sequences * length), sequences, length)


def as_contiguous(x: Array, dtype: Any) -> Array:
    """x as the array type that kernels are compiled for: contiguous, and writable though they do not write to it."""
    return np.require(x, dtype, ["C", "W"])
