"""The chain rule of reference/ against complex-step differentiation, which knows no chain rule."""

from typing import Any

import numpy as np
import pytest

from fixtures.strategies import model_parameters
from reference import activation, attention, bounds, gradients, loss, normalisation, rotary
from reference.dropout import dropout

RNG = np.random.default_rng(11)
CONFIG = {
    "d_model": 4,
    "n_heads": 2,
    "n_layers": 2,
    "d_ff": 6,
    "vocab_size": 5,
    "context": 5,
    "ln_eps": 1e-5,
    "rope_base": 100.0,
}
KEY_MASK = np.array([[True, True, True, False, True], [False, True, True, True, True], [False] * 5])
Q, K, V, DOUT = RNG.normal(size=(4, 3, 2, 5, 4))
X, DY = RNG.normal(size=(2, 3, 5))
GAMMA, BETA = RNG.normal(size=(2, 5))
LOGITS, TARGETS = RNG.normal(size=(3, 5, 5)), RNG.integers(0, 5, (3, 5))


def weighted(function, dy):
    """A scalar whose gradient is the function's backward pass for an incoming gradient dy."""
    return lambda x: (function(x) * dy).sum()


CASES: dict[str, Any] = {
    "cross_entropy": (
        [lambda x: loss.masked_mean(loss.token_nll(x, TARGETS), KEY_MASK)],
        [LOGITS],
        lambda: loss.cross_entropy(LOGITS, TARGETS, KEY_MASK)[1],
    ),
    "attention": (
        [
            weighted(lambda q: attention.attention(q, K, V, KEY_MASK), DOUT),
            weighted(lambda k: attention.attention(Q, k, V, KEY_MASK), DOUT),
            weighted(lambda v: attention.attention(Q, K, v, KEY_MASK), DOUT),
        ],
        [Q, K, V],
        lambda: attention.attention_backward(Q, K, V, KEY_MASK, DOUT),
    ),
    "layer_norm": (
        [
            weighted(lambda x: normalisation.layer_norm(x, GAMMA, BETA, 1e-5), DY),
            weighted(lambda gamma: normalisation.layer_norm(X, gamma, BETA, 1e-5), DY),
            weighted(lambda beta: normalisation.layer_norm(X, GAMMA, beta, 1e-5), DY),
        ],
        [X, GAMMA, BETA],
        lambda: normalisation.layer_norm_backward(X, GAMMA, 1e-5, DY),
    ),
    "gelu": ([weighted(activation.gelu, DY)], [3.0 * X], lambda: activation.gelu_backward(3.0 * X, DY)),
    "rope": (
        [weighted(lambda x: rotary.rope(x, 100.0), DOUT)],
        [Q],
        lambda: rotary.rope_backward(DOUT, 100.0),
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_backward_oracles_agree_with_the_complex_step(name):
    """To 100 units of the largest entry; the complex step itself is exact to rounding."""
    functions, points, backward = CASES[name]
    expected = [gradients.complex_step_gradient(f, x) for f, x in zip(functions, points, strict=True)]
    got = backward() if len(points) > 1 else [backward()]
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 100 * 2.0**-53 * np.abs(theirs).max()


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_the_model_agrees_with_the_complex_step(p):
    """Every parameter of a two-block model, with holes in both masks, with and without dropout."""
    rng = np.random.default_rng(2)
    params = model_parameters(rng, CONFIG, 0.5)
    tokens, targets = rng.integers(0, 5, (2, 3, 5))
    loss_mask = rng.random((3, 5)) < 0.7

    def drop(x, site):
        return dropout(x, p, 1, 0, site, 5)

    args = tokens, targets, loss_mask, KEY_MASK, CONFIG, drop
    simulated = bounds.simulate(gradients.loss_and_gradients, params, *args)
    value, grads = gradients.loss_and_gradients(params, *args)
    assert value == gradients.model_loss(params, *args)
    for name, parameter in params.items():

        def of_this_parameter(x, name=name):
            return gradients.model_loss(params | {name: x}, *args)

        expected = gradients.complex_step_gradient(of_this_parameter, parameter)
        allowed = simulated[1][name].bounded(np.float64)
        assert bounds.compare(expected, grads[name], allowed.bound, name).within
        assert np.abs(expected).max() > 0.0


def test_a_wrong_chain_rule_is_seen():
    """The certificate itself can fail: a gradient without the path through the mean is refused."""
    normalised, deviation = normalisation.normalise(X, 1e-5)
    without_mean = (
        DY * GAMMA - normalised * (DY * GAMMA * normalised).mean(axis=-1, keepdims=True)
    ) / deviation
    expected = gradients.complex_step_gradient(CASES["layer_norm"][0][0], X)
    assert np.abs(without_mean - expected).max() > 1e-3


def test_the_complex_step_is_exact_where_differences_are_not():
    """d/dx exp(x) / sqrt(x) at 1.5: a case known in closed form."""
    f, x = lambda z: np.exp(z) / np.sqrt(z), np.array(1.5)
    exact = np.exp(1.5) / np.sqrt(1.5) * (1.0 - 0.5 / 1.5)
    assert abs(gradients.complex_step(f, x, np.array(1.0)) - exact) <= 4 * 2.0**-53 * exact
    central = (f(x + 1e-6) - f(x - 1e-6)) / 2e-6
    assert abs(central - exact) > 1e3 * 2.0**-53 * exact
