"""What every function of the protocol guarantees: shapes, dtypes, no side effects, no shared memory, determinism.

These rules are checked first; properties of a function that breaks one are reported as blocked.
"""

import random

import numpy as np
import pytest

from fixtures.strategies import model_parameters
from honestloop.protocol import FUNCTIONS, OPTIONAL, ProtocolError
from properties.assertions import holds, refuse, same_bytes
from properties.checks import checks
from properties.dtypes import to
from reference import (
    activation,
    attention,
    clipping,
    dropout,
    gradients,
    ignored_targets,
    loss,
    model,
    normalisation,
    optimizer,
    reduction,
    rotary,
    rounding,
    training_loss,
    window_attention,
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

OBJECTIVE = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 15.0}


def sample_calls():
    """Name -> (oracle, arguments, keyword arguments) of one call, for every function that takes float arrays."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 3, 5, 8))
    heads = [rng.normal(size=(3, 2, 5, 4)) for _ in range(4)]
    tokens, targets = rng.integers(0, 7, (2, 3, 5))
    mask = np.arange(5) < np.array([[5], [2], [0]])
    params = model_parameters(rng, CONFIG, 0.1)
    gain, shift, state = rng.normal(size=8), rng.normal(size=8), rng.uniform(0.1, 1.0, (4, 3, 2))
    batch = (tokens, targets, mask, mask)
    return {
        "matmul": (np.matmul, (x[0], y[0].T.copy()), {}),
        "softmax": (loss.softmax, (x,), {}),
        "rms_norm": (normalisation.rms_norm, (x, gain, 1e-5), {}),
        "silu": (activation.silu, (x,), {}),
        "cross_entropy": (loss.cross_entropy, (x, tokens, mask), {}),
        "training_loss": (training_loss.training_loss, (x, tokens, mask), OBJECTIVE),
        "softcap": (training_loss.softcap, (x, 15.0, 2.0), {}),
        "softcap_backward": (training_loss.softcap_backward, (x, 15.0, 2.0, y), {}),
        "ignoring_cross_entropy": (ignored_targets.ignoring_cross_entropy, (x, tokens, 0), {}),
        "accumulated_loss": (reduction.accumulated_loss, ([x[0], y[1]], [x[1] > 0, y[2] > 0]), {}),
        "window_attention": (window_attention.window_attention, (*heads[:3], mask, 5), {}),
        "window_attention_backward": (
            window_attention.window_attention_backward,
            (*heads[:3], mask, 5, heads[3]),
            {},
        ),
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
    """A copy of every array in a structure."""
    return map_arrays(lambda x: x.copy() if isinstance(x, np.ndarray) else x, arguments)


def answer(subject, name, dtype):
    """The leaves of what the sample call returns, by their place in it."""
    _, args, kwargs = sample_calls()[name]
    return dict(named_arrays(subject.find(name)(*to(dtype, args), **kwargs)))


@checks("SUBJ-08")
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - OPTIONAL))
def test_every_required_or_declared_function_is_there(subject, name):
    """Without a declaration all functions that are not optional are required, else those that are declared."""
    try:
        found = name not in subject.offered or callable(subject.raw(name))
    except ProtocolError as error:
        refuse("SUBJ-08", str(error), function=name)
    holds("SUBJ-08", found, f"{name} is not a function")


@checks("SUBJ-01")
@every_function
def test_results_have_the_shape_and_dtype_of_the_law(subject, dtype, name):
    oracle, args, kwargs = sample_calls()[name]
    got, expected = answer(subject, name, dtype), dict(named_arrays(oracle(*args, **kwargs)))
    parts = f"{name} returns {sorted(got)}, expected {sorted(expected)}"
    holds("SUBJ-01", got.keys() == expected.keys(), parts, function=name)
    for part, wanted in expected.items():
        shape = np.shape(got[part])
        found = f"{name}{part}: shape {shape}, expected {np.shape(wanted)}"
        holds("SUBJ-01", shape == np.shape(wanted), found, function=name)
        if shape:
            kind = getattr(got[part], "dtype", type(got[part]).__name__)
            found = f"{name}{part}: {kind}, expected an array of {np.dtype(dtype)}"
            holds("SUBJ-01", kind == dtype, found, function=name)


@checks("SUBJ-02")
@every_function
def test_arguments_are_left_as_they_were(subject, dtype, name):
    _, args, kwargs = sample_calls()[name]
    given, kept = copied(to(dtype, args)), to(dtype, args)
    subject.find(name)(*given, **kwargs)
    for (part, after), (_, before) in zip(named_arrays(given), named_arrays(kept), strict=True):
        if isinstance(before, np.ndarray):
            same_bytes("SUBJ-02", after, before, f"argument {part} after {name}")


@checks("SUBJ-03")
@every_function
def test_the_same_call_gives_the_same_bytes(subject, dtype, name):
    first, again = (copied(answer(subject, name, dtype)) for _ in range(2))
    for part in first:
        same_bytes("SUBJ-03", again[part], first[part], f"{name}{part}, called again")


@checks("SUBJ-06")
@every_function
def test_nothing_is_printed(subject, dtype, name):
    answer(subject, name, dtype)
    line = " ".join(subject.guard.printed.get(name, "").split())
    holds("SUBJ-06", not line, f"{name} printed: {line[:120]}", function=name)


@checks("SUBJ-09")
@every_function
def test_ordinary_arguments_give_finite_results(subject, dtype, name):
    for part, x in answer(subject, name, dtype).items():
        holds("SUBJ-09", np.all(np.isfinite(x)), f"{name}{part} is not finite everywhere", function=name)


@checks("SUBJ-10")
@every_function
def test_results_share_no_memory(subject, dtype, name):
    """Neither with an argument nor with the result of the same call before."""
    _, args, kwargs = sample_calls()[name]
    given = to(dtype, args)
    first, second = (dict(named_arrays(subject.find(name)(*given, **kwargs))) for _ in range(2))
    others = {f"argument {part}": x for part, x in named_arrays(given) if isinstance(x, np.ndarray)}
    others |= {f"the result{part} of the call before": x for part, x in first.items()}
    for part, x in second.items():
        for what, y in others.items():
            found = f"{name}{part} shares memory with {what}"
            shared = isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and np.shares_memory(x, y)
            holds("SUBJ-10", not shared, found, function=name)


WITHOUT_FLOATS = {
    "initial_parameters": (0, CONFIG),
    "epoch_order": (40, 0, 0),
    "sample_batch": (np.arange(1009), 9, 3, 0),
    "data_iterator": ([[1, 5, 6], [1, 6, 2, 3]], 1, 0),
}
RATE = {"peak": 1.0, "floor": 0.1, "warmup": 2, "total": 9}
NUMBERS = {
    "decays": ((["E", "block_0.ffn.b_1"],), {}),
    "learning_rate": ((3,), RATE),
    "make_batch": (([[1, 5, 6], [1, 6]],), {}),
    "perplexity": ((3.0, 2), {}),
} | {name: (args, {}) for name, args in WITHOUT_FLOATS.items() if name != "data_iterator"}
"""One call of every function without float arrays; the seed is 0, which is a seed like any other."""


@checks("SUBJ-03")
@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_the_same_call_gives_the_same_numbers(subject, name):
    args, kwargs = NUMBERS[name]
    function = subject.find(name)
    first, again = (copied(dict(named_arrays(function(*args, **kwargs)))) for _ in range(2))
    holds("SUBJ-03", first.keys() == again.keys(), f"{name}, called again, has other parts", function=name)
    for part in first:
        same_bytes("SUBJ-03", np.asarray(again[part]), np.asarray(first[part]), f"{name}{part}, called again")


@checks("SUBJ-04")
@pytest.mark.parametrize("name", sorted({*sample_calls(), *WITHOUT_FLOATS}))
def test_no_global_random_generator_is_used(subject, name):
    def state():
        numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002  (the global generator is what is tested)
        return random.getstate(), repr(numpy_state)

    _, args, kwargs = sample_calls().get(name, (None, WITHOUT_FLOATS.get(name), {}))
    args = to(subject.conventions.float_types[0], args) if name in sample_calls() else args
    random.random()  # so that reseeding changes the state even if the generator was seeded the same way before
    np.random.random()  # noqa: NPY002
    before = state()
    made = subject.find(name)(*args, **kwargs)
    if name == "data_iterator":
        made.next_batch()
    holds("SUBJ-04", state() == before, f"{name} moved a global generator", function=name)
