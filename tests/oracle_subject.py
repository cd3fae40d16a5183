"""A correct subject made of the oracles themselves, computing in the dtype of its arguments.

The oracles are plain NumPy, so on float32 arrays they are a float32 implementation. `tests/wrong_subjects.py` breaks it
one function at a time. As any subject, it can be graded: `pytest properties --impl tests.oracle_subject`.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from reference import (
    activation,
    clipping,
    data,
    gradients,
    loss,
    model,
    normalisation,
    optimizer,
    rotary,
    rounding,
    schedule,
)
from reference import attention as attention_oracle
from reference import dropout as dropout_oracle
from reference import perplexity as perplexity_oracle
from reference.bounds import map_arrays, named_arrays
from reference.philox import stream_key

Function = Callable[..., Any]


def in_dtype_of_arguments(oracle: Function) -> Function:
    """The oracle, its float results cast to the dtype of its float arguments."""

    def function(*args: Any, **kwargs: Any) -> Any:
        dtype = next(
            x.dtype for _, x in named_arrays(args) if isinstance(x, np.ndarray) and x.dtype.kind == "f"
        )
        return map_arrays(
            lambda x: np.array(x, dtype=dtype) if np.ndim(x) else float(x), oracle(*args, **kwargs)
        )

    return function


def initial_parameters(seed: int, config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every tensor from a generator of its own."""

    def first_values(number: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if model.initial_law(name) != "normal":
            return np.full(shape, float(model.initial_law(name) == "ones"))
        generator = np.random.default_rng([*stream_key(seed, "init"), number])
        return model.INITIAL_DEVIATION * generator.standard_normal(shape)

    shapes = model.parameter_shapes(config)
    return {name: first_values(number, name, shape) for number, (name, shape) in enumerate(shapes.items())}


class DataIterator:
    """The iterator law as a state machine: the state is the number of batches given out."""

    def __init__(self, sequences: list[list[int]], batch_size: int, seed: int) -> None:
        self.sequences, self.batch_size, self.seed = sequences, batch_size, seed
        self.restore({"batches": 0})

    def next_batch(self) -> Any:
        self.epoch, indices = next(self.stream)
        self.given += 1
        return data.make_batch([self.sequences[i] for i in indices])

    def state(self) -> dict[str, int]:
        return {"batches": self.given}

    def restore(self, state: dict[str, int]) -> None:
        self.stream, self.given, self.epoch = (
            data.batches(len(self.sequences), self.batch_size, self.seed),
            0,
            0,
        )
        while self.given < state["batches"]:
            self.next_batch()


SUBJECT: dict[str, Function] = {
    "matmul": in_dtype_of_arguments(operator.matmul),
    "cross_entropy": in_dtype_of_arguments(loss.cross_entropy),
    "layer_norm": in_dtype_of_arguments(normalisation.layer_norm),
    "layer_norm_backward": in_dtype_of_arguments(normalisation.layer_norm_backward),
    "gelu": in_dtype_of_arguments(activation.gelu),
    "gelu_backward": in_dtype_of_arguments(activation.gelu_backward),
    "rope": in_dtype_of_arguments(rotary.rope),
    "rope_backward": in_dtype_of_arguments(rotary.rope_backward),
    "attention": in_dtype_of_arguments(attention_oracle.attention),
    "attention_backward": in_dtype_of_arguments(attention_oracle.attention_backward),
    "dropout": in_dtype_of_arguments(dropout_oracle.dropout),
    "adamw_step": in_dtype_of_arguments(optimizer.adamw_step),
    "clip_by_global_norm": in_dtype_of_arguments(clipping.clip_by_global_norm),
    "learning_rate": schedule.learning_rate,
    "decays": optimizer.decays,
    "initial_parameters": initial_parameters,
    "forward": in_dtype_of_arguments(model.forward),
    "loss_and_gradients": in_dtype_of_arguments(gradients.loss_and_gradients),
    "make_batch": data.make_batch,
    "epoch_order": data.epoch_order,
    "perplexity": perplexity_oracle.perplexity,
    "round_weights": rounding.round_weights,
    "data_iterator": DataIterator,
}


def __getattr__(name: str) -> Function:
    try:
        return SUBJECT[name]
    except KeyError:
        raise AttributeError(name) from None
