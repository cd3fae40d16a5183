"""What every function owes its caller: shape, dtype, its arguments back as they were, the same bytes."""

import random

import numpy as np
import pytest

from fixtures.protocol import FUNCTIONS, OPTIONAL
from fixtures.strategies import model_parameters
from properties.assertions import holds, same_bytes
from properties.dtypes import in_both_dtypes, to
from reference import (
    activation,
    attention,
    clipping,
    dropout,
    gradients,
    loss,
    model,
    normalisation,
    optimizer,
    rotary,
    rounding,
)
from reference.bounds import map_arrays, named_arrays

CONFIG = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "d_ff": 12,
    "vocab_size": 7,
    "context": 6,
    "ln_eps": 1e-5,
    "rope_base": 10000.0,
}
ADAMW = {"t": 3, "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}


def sample_calls():
    """name -> (oracle, arguments, keyword arguments): one call of every function that takes float arrays."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 3, 5, 8))
    heads = [rng.normal(size=(3, 2, 5, 4)) for _ in range(4)]
    tokens, targets = rng.integers(0, 7, (2, 3, 5))
    mask = np.arange(5) < np.array([[5], [2], [0]])
    params = model_parameters(rng, CONFIG, 0.1)
    gain, shift, state = rng.normal(size=8), rng.normal(size=8), rng.uniform(0.1, 1.0, (4, 6))
    batch = (tokens, targets, mask, mask)
    return {
        "matmul": (np.matmul, (x[0], y[0].T.copy()), {}),
        "cross_entropy": (loss.cross_entropy, (x, tokens, mask), {}),
        "layer_norm": (normalisation.layer_norm, (x, gain, shift, 1e-5), {}),
        "layer_norm_backward": (normalisation.layer_norm_backward, (x, gain, 1e-5, y), {}),
        "gelu": (activation.gelu, (x,), {}),
        "gelu_backward": (activation.gelu_backward, (x, y), {}),
        "rope": (rotary.rope, (heads[0], 10000.0), {}),
        "rope_backward": (rotary.rope_backward, (heads[0], 10000.0), {}),
        "attention": (attention.attention, (*heads[:3], mask), {}),
        "attention_backward": (attention.attention_backward, (*heads[:3], mask, heads[3]), {}),
        "dropout": (dropout.dropout, (x, 0.5, 7, 3, 1, 6), {}),
        "adamw_step": (optimizer.adamw_step, tuple(state), ADAMW),
        "clip_by_global_norm": (clipping.clip_by_global_norm, ([x, gain], 0.5), {}),
        "forward": (model.forward, (params, tokens, mask, CONFIG), {}),
        "loss_and_gradients": (gradients.loss_and_gradients, (params, *batch, CONFIG), {}),
        "round_weights": (rounding.round_weights, (x, "float16"), {}),
    }


every_function = pytest.mark.parametrize("name", sorted(sample_calls()))


def copied(arguments):
    return map_arrays(lambda x: x.copy() if isinstance(x, np.ndarray) else x, arguments)


@every_function
@in_both_dtypes
def test_results_have_the_shape_and_dtype_of_the_law(subject, dtype, name):
    oracle, args, kwargs = sample_calls()[name]
    got = dict(named_arrays(subject.find(name)(*to(dtype, args), **kwargs)))
    expected = dict(named_arrays(oracle(*args, **kwargs)))
    holds(
        "SUBJ-01", got.keys() == expected.keys(), f"{name} returns {sorted(got)}, expected {sorted(expected)}"
    )
    for part, wanted in expected.items():
        shape = np.shape(got[part])
        holds(
            "SUBJ-01", shape == np.shape(wanted), f"{name}{part}: shape {shape}, expected {np.shape(wanted)}"
        )
        if shape:
            kind = got[part].dtype
            holds("SUBJ-01", kind == dtype, f"{name}{part}: dtype {kind}, expected {np.dtype(dtype)}")


@every_function
@in_both_dtypes
def test_arguments_are_left_as_they_were(subject, dtype, name):
    _, args, kwargs = sample_calls()[name]
    given, kept = copied(to(dtype, args)), to(dtype, args)
    subject.find(name)(*given, **kwargs)
    for (part, after), (_, before) in zip(named_arrays(given), named_arrays(kept), strict=True):
        if isinstance(before, np.ndarray):
            same_bytes("SUBJ-02", after, before, f"argument {part} after {name}")


@every_function
@in_both_dtypes
def test_the_same_call_gives_the_same_bytes(subject, dtype, name):
    _, args, kwargs = sample_calls()[name]
    first, again = (copied(subject.find(name)(*to(dtype, args), **kwargs)) for _ in range(2))
    for (part, one), (_, two) in zip(named_arrays(first), named_arrays(again), strict=True):
        same_bytes("SUBJ-03", two, one, f"{name}{part}, called again")


def test_no_global_random_generator_is_used(subject):
    def state():
        numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002  (to see that nobody touches it)
        return random.getstate(), repr(numpy_state)

    before = state()
    calls = sample_calls()
    for name, (_, args, kwargs) in calls.items():
        subject.find(name)(*args, **kwargs)
    subject.initial_parameters(0, CONFIG)
    subject.epoch_order(9, 0, 0)
    subject.data_iterator([[1, 5, 6], [1, 6, 2, 3]], 1, 0).next_batch()
    holds("SUBJ-04", state() == before, "the global generators of random or numpy.random have moved")


def test_every_function_of_the_protocol_is_there(subject):
    for name in FUNCTIONS.keys() - OPTIONAL:
        holds("SUBJ-01", callable(subject.find(name)), f"{name} is not a function")
