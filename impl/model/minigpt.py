"""MiniGPT: a pre-LayerNorm decoder with rotary positions and a tied head; its parameters and their gradients.

What happens to a piece of a batch is in kernels/forward_backward.py, how pieces are handed out in kernels/worker.py;
here the threads are started.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.config import ModelConfig
from impl.data.iterator import Batch
from impl.kernels import elementwise, parallel, views
from impl.kernels.forward_backward import Model
from impl.kernels.rows import Rows, Tokens, any_foreign, whole_tiles
from impl.kernels.runtime.compile import interpreted
from impl.kernels.runtime.memory import zeros
from impl.kernels.runtime.ordered import TRANSPOSED, TRANSPOSING
from impl.kernels.runtime.thread_pool import Team, team
from impl.kernels.views import Shape, Size
from impl.kernels.worker import CHAINS, STRETCH, Room, Sums, sequences_of, turns_size, work
from impl.model.dropout import NO_DROPOUT, Dropout
from impl.model.parameters import named_views, parameter_count, parameter_shapes
from impl.model.rotary import Rotary

if TYPE_CHECKING:  # a start has better things to do
    from jaxtyping import Bool, Float, Int

Array = np.ndarray[Any, np.dtype[Any]]


class MiniGPT:
    """Parameters and gradients; the first state machine.

    Logits are [B, T, V]. `accumulate` adds to the gradients of a window, which begins with `zero_gradients`;
    `gradients` has them after `finish_gradients`, which ends it: a second one is that of an empty window.
    """

    def __init__(
        self, config: ModelConfig, dtype: str, parameters: dict[str, Array], threads: Team | None = None
    ) -> None:
        self.config = config
        self.dtype = dtype
        self._team = threads or team()
        self._shape = Shape(config.n_layers, config.n_heads, config.d_model, config.d_ff, config.vocab_size)
        shapes, count = parameter_shapes(config), parameter_count(config)
        self.flat_parameters, self.flat_gradients = zeros(count, dtype), zeros(count, dtype)
        self.parameters = named_views(self.flat_parameters, shapes)
        self.gradients = named_views(self.flat_gradients, shapes)
        self.sums = zeros((CHAINS, count), dtype), zeros((CHAINS, *shapes["E"]), dtype)
        """Gradients as the passes add them up, chain by chain; that of the tied head is apart from the embedding's."""
        self._added = False
        self.restore(parameters)
        self._flat_transposed = zeros(count, dtype)
        self._rooms: dict[int, Room] = {}
        self._turns_size = turns_size(self._shape)
        self._number = np.dtype(dtype).type
        self._norm_eps = self._number(config.ln_eps)
        self._score_scale = self._number(1.0 / np.sqrt(config.d_model // config.n_heads))

    @cached_property
    def _rotary(self) -> Rotary:
        config = self.config
        head_size = config.d_model // config.n_heads
        return Rotary.tables(config.context, config.n_heads, head_size, config.rope_base, self.dtype)

    def state(self) -> dict[str, Array]:
        """A copy of every parameter by name."""
        return {name: value.copy() for name, value in self.parameters.items()}

    def restore(self, state: dict[str, Array]) -> None:
        """Overwrite every parameter; names and shapes must be this model's."""
        for name, value in self.parameters.items():
            value[...] = state[name]

    # ---- losses and gradients

    def zero_gradients(self) -> None:
        """`finish_gradients` has done so already, unless something was added since."""
        if self._added:
            for total in self.sums:
                total[:] = 0.0
            self._added = False

    def accumulate(self, batch: Batch, dropout: Dropout, tokens: int, nll: float = 0.0) -> float:
        """Add the gradient of this batch's part of the mean over `tokens`, those of the whole window.

        Returns `nll` plus the batch's negative log-likelihoods in nats, added one after the other.
        """
        self._added = True
        return self._losses(self._model, batch, dropout, nll, 1.0 / max(tokens, 1), backwards=True)

    def finish_gradients(self) -> float:
        """After the last batch of a window: `gradients`, of what the chains are, which then begin anew.

        Returns the sum of their squares.
        """
        chains, of_head = self.sums
        squares = np.empty(parallel.count(self.flat_gradients.size))
        arrays = chains, of_head.reshape(CHAINS, -1), self.flat_gradients, squares
        self._team.share(lambda turns: parallel.finish_gradients(turns, *arrays), self.flat_gradients.size)
        self._added = False
        return float(parallel.total(squares))

    def nll(self, batch: Batch, nll: float = 0.0) -> float:
        """`nll` plus the negative log-likelihoods, in nats, of the unmasked targets, one by one; no dropout."""
        return self._losses(self._model, batch, NO_DROPOUT, nll, 0.0, backwards=False)

    def _losses(
        self,
        model: Model,
        batch: Batch,
        dropout: Dropout,
        nll: float,
        weight: float,
        *,
        backwards: bool,
        transposed: bool = False,
    ) -> float:
        """Every thread takes pieces of the batch; the sum is over them in order. `transposed`: matrices are already.

        ValueError before a kernel, which checks nothing, would read what is not the batch's.
        """
        input, target = given(batch.input, np.int64), given(batch.target, np.int64)
        loss_mask, key_mask = given(batch.loss_mask, np.bool_), given(batch.key_mask, np.bool_)
        shapes = {x.shape for x in (input, target, loss_mask, key_mask)}
        if len(shapes) > 1:
            raise ValueError(f"a batch of arrays of different shapes: {sorted(shapes)}")
        if input.shape[1] > self.config.context:
            raise ValueError(f"{input.shape[1]} tokens a row; the model's context is {self.config.context}")
        tokens = Tokens(input, target, loss_mask, key_mask, dropout.first_row)
        if any_foreign(tokens, self.config.vocab_size):
            read = np.concatenate([input.reshape(-1), target[loss_mask]])
            raise ValueError(
                f"tokens from {read.min()} to {read.max()}; the model has {self.config.vocab_size}"
            )
        losses = np.empty(batch.input.shape)
        turns = np.zeros((CHAINS, self._turns_size), np.int64)
        turns[0, TRANSPOSING : TRANSPOSED + 1] = transposed
        sums = Sums(losses, *self.sums, turns)
        dropping = dropout.dropping(self.config.context, self.dtype)
        each, length = self._number(weight), batch.input.shape[1]
        size = sequences_of(length, self.config.d_model)

        def share(worker: int) -> None:
            work(worker, tokens, model, dropping, self._room(worker), sums, each, backwards)

        self._team.run(share, -(-len(batch.input) // size), turns)
        return float(elementwise.sum_onto(nll, losses.reshape(-1)))

    # ---- what each layer puts out

    def forward(
        self, tokens: Int[np.ndarray, "B T"], key_mask: Bool[np.ndarray, "B T"]
    ) -> Float[np.ndarray, "B T V"]:
        """Logits without dropout."""
        return self.forward_layers(tokens, key_mask)["logits"]

    def forward_layers(
        self, tokens: Int[np.ndarray, "B T"], key_mask: Bool[np.ndarray, "B T"]
    ) -> dict[str, Array]:
        """What each layer puts out: embed_out, block_i_out, final_ln_out, logits."""
        length, width = tokens.shape[1], self.config.d_model
        names = ["embed_out", *(f"block_{i}_out" for i in range(self.config.n_layers)), "final_ln_out"]
        outs = {name: np.zeros((*tokens.shape, width), self.dtype) for name in names}
        outs["logits"] = np.zeros((*tokens.shape, self.config.vocab_size), self.dtype)
        model, size = self._model, sequences_of(length, width)
        for start in range(0, len(tokens) if length else 0, size):
            some = slice(start, start + size)
            for name, rows in self._layers_of_piece(model, tokens[some], key_mask[some], start > 0).items():
                outs[name][some] = rows
        return outs

    def _layers_of_piece(
        self, model: Model, tokens: Array, key_mask: Array, transposed: bool
    ) -> dict[str, Array]:
        """The same as views of the first worker's room: what `work` leaves there of one piece."""
        counted, shape = np.ones(tokens.shape, np.bool_), self._shape
        batch = Batch(tokens, np.zeros_like(tokens), counted, key_mask)
        self._losses(model, batch, NO_DROPOUT, 0.0, 0.0, backwards=False, transposed=transposed)
        size, room = Size(whole_tiles(tokens.size), *tokens.shape), self._rooms[0].numbers
        last = interpreted(views.passing)(room, size, shape)
        outs = {"embed_out": last.embedded, "final_ln_out": last.normed, "logits": last.logits}
        for i in range(self.config.n_layers):
            outs[f"block_{i}_out"] = interpreted(views.kept)(room, i, size, shape).out
        return {name: x[: tokens.size].reshape(*tokens.shape, -1) for name, x in outs.items()}

    # ---- what the kernels are given

    @cached_property
    def _model(self) -> Model:
        """The parameters, and room for the transposes that are kept."""
        rotary = self._rotary
        tables = rotary.cosine, rotary.sine, rotary.back, rotary.half
        return Model(
            self._shape,
            self.flat_parameters,
            self._flat_transposed,
            *tables,
            self._norm_eps,
            self._score_scale,
        )

    def _room(self, worker: int) -> Room:
        """Memory of a worker for a piece of any batch; what no piece has needed yet takes no memory."""
        if worker not in self._rooms:
            self._rooms[worker] = self._new_room()
        return self._rooms[worker]

    def _new_room(self) -> Room:
        config = self.config
        sizes = [self._piece_size(length) for length in range(1, config.context + 1)]
        numbers = max(views.room_size(size, self._shape) for size in sizes)
        count, sites = max(size.rows for size in sizes), 2 * config.n_layers + 1
        starts = np.zeros(STRETCH + 1, np.int64)
        ints, bools = np.zeros((4, count), np.int64), np.zeros((2, count), np.bool_)
        rows = Rows(starts, ints[0], ints[1], bools[0], bools[1], ints[2], ints[3])
        keep = zeros(sites * count * config.d_model, np.bool_)
        return Room(zeros(numbers, self.dtype), keep, rows, zeros(count, np.float64))

    def _piece_size(self, length: int) -> Size:
        """Of the largest piece of a batch of this length."""
        sequences = sequences_of(length, self.config.d_model)
        return Size(whole_tiles(sequences * length), sequences, length)


def given(x: Array, dtype: Any) -> Array:
    """As the kernels are compiled for: contiguous, and not read-only, though they do not write to it."""
    return np.require(x, dtype, ["C", "W"])
