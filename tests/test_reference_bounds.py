"""The bounds: they hold for what is correct, agree with closed forms, and are small enough to refuse what is wrong."""

import math
import operator
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.mutants import MUTANTS
from fixtures.strategies import in_single, log_uniform, model_parameters, normal
from fixtures.subjects.reference import functions
from honestloop.conventions import Conventions
from properties.dtypes import to
from reference import (
    activation,
    attention,
    bounds,
    gradients,
    loss,
    loss_bounds,
    model,
    monte_carlo,
    normalisation,
    optimizer,
    rotary,
)
from reference.arithmetic import DOUBLE, ELEMENTARY, SINGLE, gamma, unit_roundoff
from reference.running_error import RunningErrorArray
from tests.fifty_digits import FiftyDigits, error

RNG = np.random.default_rng(4)
SUBJECT = functions(Conventions())
BINARY: dict[str, Any] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
BINARY |= {"min": np.minimum, "max": np.maximum}
UNARY: dict[str, Any] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "cos": np.cos,
    "sin": np.sin,
    "erf": activation.erf,
}


def moved(x, relative):
    """(x, x off by a random error of at most this relative size, that bound)."""
    size = relative * np.abs(x)
    return x + size * RNG.uniform(-1.0, 1.0, x.shape), size


@pytest.mark.parametrize("name", sorted(BINARY))
@pytest.mark.parametrize("relative", [0.0, 1e-6, 0.1])
def test_errors_of_operands_are_carried_through_two_argument_operations(name, relative):
    """Errors of 10 % as well: the inequalities are not first-order."""
    a, b = RNG.normal(size=(2, 500)) * 10.0 ** RNG.uniform(-3, 3, (2, 500))
    (a1, ea), (b1, eb) = moved(a, relative), moved(b, relative)
    result = BINARY[name](RunningErrorArray((a, ea), SINGLE), RunningErrorArray((b, eb), SINGLE))
    with np.errstate(all="ignore"):
        computed = BINARY[name](a1.astype(np.float32), b1.astype(np.float32))
    if relative == 0.0:
        exact = BINARY[name](FiftyDigits.exact(a.astype(np.float32)), FiftyDigits.exact(b.astype(np.float32)))
        assert np.all(error(computed, exact) <= SINGLE * np.abs(computed) + 2.0**-149)
    else:
        assert np.all(np.abs(BINARY[name](a1, b1) - BINARY[name](a, b)) <= result.error)


@pytest.mark.parametrize("name", sorted(UNARY))
@pytest.mark.parametrize("relative", [1e-6, 0.1, 0.9])
def test_errors_of_operands_are_carried_through_functions(name, relative):
    x = 10.0 ** RNG.uniform(-3, 0.5, 500)
    (x1, e) = moved(x, relative)
    result = UNARY[name](RunningErrorArray((x, e), SINGLE))
    assert np.all(np.abs(UNARY[name](x1) - UNARY[name](x)) <= result.error)


def test_nothing_is_said_where_nothing_is_known():
    """A divisor that may be 0 has an infinite bound, and a comparison under it counts as silent."""
    divisor = RunningErrorArray((np.array([1e-3]), np.array([1e-3])), SINGLE)
    quotient = RunningErrorArray.exact([1.0], SINGLE) / divisor
    assert math.isinf(quotient.error[0])
    assert bounds.compare([5.0], quotient.value, bounds.allowed(quotient)).silent == 1.0


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 200))
def test_sums_in_any_order_stay_within_the_bound(seed, n):
    rng = np.random.default_rng(seed)
    x = log_uniform(rng, (n,), -3.0, 3.0)
    result = RunningErrorArray.exact(x, SINGLE).sum()
    total = np.float32(0.0)
    for term in rng.permutation(x).astype(np.float32):
        total = np.float32(total + term)
    pairwise = rng.permutation(x).astype(np.float32).sum()
    exact = math.fsum(x)
    assert max(abs(float(total) - exact), abs(float(pairwise) - exact)) <= result.error


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_matrix_products_in_any_order_stay_within_the_bound(order):
    a, b = normal(RNG, (5, 40)), normal(RNG, (40, 6))
    k = {"up": np.arange(40), "down": np.arange(40)[::-1], "shuffled": RNG.permutation(40)}[order]
    total = np.zeros((5, 6), dtype=np.float32)
    for i in k:
        total += np.outer(a[:, i].astype(np.float32), b[i].astype(np.float32))
    assert bounds.check(total, np.matmul, a, b, dtype=np.float32).within


def test_a_lower_precision_does_not_pass_for_a_higher_one():
    a, b = normal(RNG, (5, 40)), normal(RNG, (40, 6))
    single = a.astype(np.float32) @ b.astype(np.float32)
    assert bounds.check(single, np.matmul, a, b, dtype=np.float32).within
    assert not bounds.check(single, np.matmul, a, b, dtype=np.float64).within


def test_other_dtypes_have_no_bound():
    with pytest.raises(TypeError, match="float16"):
        bounds.check(np.zeros(2), activation.gelu, np.zeros(2), dtype=np.float16)


def gradient_through_the_maximum(logits, targets):
    """Autograd's, in single precision, of the loss of one row whose maximum is subtracted without being detached."""
    shifted = logits - logits.max()
    weights = np.exp(shifted) / np.exp(shifted).sum()
    weights[targets] -= np.float32(1.0)
    weights[np.argmax(logits)] -= weights.sum()
    return weights


def test_a_gradient_taken_through_the_maximum_is_allowed_and_a_wrong_one_is_not():
    """Rows of equal logits, where all errors have one sign. The formula's own bound does not allow for them."""
    own, allowed = [], []
    for size in range(2, 40):
        args = np.zeros((1, 1, size)), np.full((1, 1), size - 1), np.ones((1, 1), dtype=bool)
        got = gradient_through_the_maximum(np.zeros(size, dtype=np.float32), size - 1)[None, None]
        narrow = bounds.worst_case(loss.cross_entropy, *args, dtype=np.float32)[1]
        wide = loss_bounds.cross_entropy(*args, dtype=np.float32)[1]
        own.append(bounds.compare(got, narrow.value, narrow.bound).ratio)
        allowed.append(bounds.compare(got, wide.value, wide.bound).ratio)
        assert not bounds.compare(got + np.float32(2e-5), wide.value, wide.bound).within
    assert max(own) > 1.0 >= max(allowed)


# --- closed forms ---


def agrees_with_closed_form(ours, closed, at_most):
    """The largest quotient of our bounds and a closed form, which is a little coarser in places, is near 1."""
    return 0.3 < float(np.max(ours / closed)) < at_most


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_softmax_agrees_with_its_closed_form(scale):
    """Relative: 2 u R + 2 e + gamma_(n-1) + u, R the range, e the error of exp (Blanchard, Higham, Higham, 2021)."""
    x = normal(RNG, (20, 11), scale)
    spread = (x.max(axis=-1) - x.min(axis=-1))[:, None]
    exact = loss.softmax(x)
    closed = exact * (2 * SINGLE * spread + 2 * ELEMENTARY * SINGLE + gamma(10, SINGLE) + SINGLE)
    ours = bounds.worst_case(loss.softmax, x, dtype=np.float32).bound
    normal_numbers = exact > 1e-30
    assert agrees_with_closed_form(ours[normal_numbers], closed[normal_numbers], at_most=1.5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_cross_entropy_agrees_with_its_closed_form(scale):
    """Absolute: u R + e + gamma_(n-1) + e |log s| + u |x_t - m| + u |loss| (the same source)."""
    x, targets = normal(RNG, (20, 1, 11), scale), RNG.integers(0, 11, (20, 1))
    shifted = x - x.max(axis=-1, keepdims=True)
    spread = -shifted.min(axis=-1)
    log_sum = np.log(np.exp(shifted).sum(axis=-1))
    at_target = -np.take_along_axis(shifted, targets[..., None], -1)[..., 0]
    e = ELEMENTARY * SINGLE
    closed = SINGLE * (spread + at_target + log_sum + at_target) + e + gamma(10, SINGLE) + e * log_sum
    ours = bounds.worst_case(loss.token_nll, x, targets, dtype=np.float32).bound
    assert agrees_with_closed_form(ours, closed, at_most=1.5)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_layer_norm_agrees_with_its_closed_form(offset):
    """gamma_D mean|x| / deviation + (D / 2 + 5) u, relative to a normalised entry of size 1."""
    x = normal(RNG, (20, 16), 1.0, offset)
    one, zero = np.ones(16), np.zeros(16)
    mean, deviation = np.abs(x).mean(axis=-1, keepdims=True), np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    y = normalisation.layer_norm(x, one, zero, 1e-5)
    closed = gamma(16, SINGLE) * mean / deviation * (1.0 + np.abs(y)) + (16 / 2 + 5) * SINGLE * (
        1.0 + np.abs(y)
    )
    ours = bounds.worst_case(normalisation.layer_norm, x, one, zero, 1e-5, dtype=np.float32).bound
    assert agrees_with_closed_form(ours, closed, at_most=2.0)


def test_adamw_agrees_with_its_closed_form():
    """v: 4 u v; m: 3 u (b1 |m| + (1 - b1) |g|); p: 2 u |p| + about 8 u lr |m| / c1 / (sqrt(v / c2) + eps)."""
    p, m = normal(RNG, (200,)), np.abs(log_uniform(RNG, (200,), -6, 1))
    g, v = np.abs(log_uniform(RNG, (200,), -6, 1)) + 1e-9, np.abs(log_uniform(RNG, (200,), -12, 2)) + 1e-12
    settings: dict[str, Any] = {
        "t": 5,
        "lr": 0.1,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.5,
    }
    new_p, new_m, new_v = bounds.worst_case(optimizer.adamw_step, p, g, m, v, **settings, dtype=np.float32)
    c1, c2 = 1.0 - 0.9**5, 1.0 - 0.999**5
    step = 0.1 * new_m.value / c1 / (np.sqrt(new_v.value / c2) + 1e-8)
    for ours, closed in (
        (new_v, 4 * SINGLE * new_v.value),
        (new_m, 3 * SINGLE * (0.9 * m + 0.1 * g)),
        (new_p, SINGLE * (2 * np.abs(p) + 8 * step)),
    ):
        assert agrees_with_closed_form(ours.bound, closed, at_most=2.5)


# --- not vacuous ---


def test_relative_sizes_of_worst_case_bounds():
    """Each function's bound, relative to the largest entry of its result, for ordinary float32 arguments."""
    x, q = normal(RNG, (4, 7, 16)), normal(RNG, (2, 2, 7, 8))
    targets, mask = RNG.integers(0, 16, (4, 7)), np.ones((4, 7), dtype=bool)
    heads, keys = (q, q[::-1], in_single(q + 1.0)), np.ones((2, 7), dtype=bool)
    for oracle, args, limit in (
        (loss.cross_entropy, (x, targets, mask), 1e-5),
        (attention.attention, (*heads, keys), 1e-5),
        (attention.attention_backward, (*heads, keys, q), 1e-4),
        (normalisation.layer_norm, (x, x[0, 0], x[0, 1], 1e-5), 1e-5),
        (normalisation.layer_norm_backward, (x, x[0, 0], 1e-5, x[::-1]), 2e-5),
        (activation.gelu, (x,), 1e-6),
        (activation.gelu_backward, (x, x[::-1]), 2e-6),
        (rotary.rope, (q, 10000.0), 1e-5),
    ):
        for name, result in bounds.named_arrays(bounds.worst_case(oracle, *args, dtype=np.float32)):
            relative = result.bound.max() / np.abs(result.value).max()
            assert relative < limit, f"{oracle.__name__}{name}: {relative:.1e}"


WRONG_BY_FAR = {
    "loss_mean_of_row_means": 1e3,
    "act_tanh": 10.0,
    "att_not_scaled": 1e3,
    "att_padding_attended": 1e3,
    "att_blind_to_itself": 1e3,
    "norm_variance_with_d_minus_one": 100.0,
    "norm_eps_outside_the_root": 10.0,
    "att_gradient_without_mean": 100.0,
    "norm_gradient_of_constants": 100.0,
    "act_gradient_density_without_x": 1e3,
    "rope_neighbours": 1e3,
    "rope_positions_from_one": 1e3,
    "opt_eps_in_the_root": 100.0,
    "opt_eps_before_the_correction": 100.0,
    "opt_l2_instead_of_decay": 100.0,
}


@pytest.mark.parametrize("name", sorted(WRONG_BY_FAR))
def test_known_wrong_variants_are_far_beyond_the_bound(name):
    """float32, ordinary arguments: the error of a mistake is this many times the bound, or more."""
    wrong = MUTANTS[name]
    x, q, targets = normal(RNG, (4, 7, 16)), normal(RNG, (2, 2, 7, 8)), RNG.integers(0, 16, (4, 7))
    mask, keys = np.arange(7) < np.array([[7], [2], [1], [5]]), np.arange(7) < np.array([[7], [4]])
    keys[0, 1] = False
    tiny = log_uniform(RNG, (50,), -9, -6)
    settings: dict[str, Any] = {
        "t": 2,
        "lr": 0.1,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.5,
    }
    args = {
        "cross_entropy": (x, targets, mask),
        "attention": (q, q[::-1].copy(), in_single(q + 1.0), keys),
        "attention_backward": (q, q[::-1].copy(), in_single(q + 1.0), keys, q),
        "layer_norm": (in_single(x * 0.1), x[0, 0], x[0, 1], 1e-5),
        "layer_norm_backward": (x[0], x[0, 0], 1e-5, x[1]),
        "gelu": (x,),
        "gelu_backward": (x, x[::-1].copy()),
        "rope": (q, 10000.0),
        "adamw_step": (x.reshape(-1)[:50], tiny, in_single(tiny * 0.1), in_single(tiny**2)),
    }[wrong.function]
    kwargs: dict[str, Any] = settings if wrong.function == "adamw_step" else {}
    oracles: dict[str, Any] = {
        "cross_entropy": loss.cross_entropy,
        "attention": attention.attention,
        "attention_backward": attention.attention_backward,
        "layer_norm": normalisation.layer_norm,
        "layer_norm_backward": normalisation.layer_norm_backward,
        "gelu": activation.gelu,
        "gelu_backward": activation.gelu_backward,
        "rope": rotary.rope,
        "adamw_step": optimizer.adamw_step,
    }
    oracle = oracles[wrong.function]
    single = [to(np.float32, x) for x in args]
    right = bounds.check(
        SUBJECT[wrong.function](*single, **kwargs), oracle, *args, dtype=np.float32, **kwargs
    )
    far = bounds.check(wrong.under()(*single, **kwargs), oracle, *args, dtype=np.float32, **kwargs)
    assert right.within
    assert far.ratio > WRONG_BY_FAR[name]


# --- whole models ---


def ordinary_model(rows, length, scale=0.1):
    params = model_parameters(np.random.default_rng(0), dict(model.DEFAULT_CONFIG), scale)
    tokens, targets = np.random.default_rng(1).integers(0, 64, (2, rows, length))
    real = np.arange(length) < np.random.default_rng(2).integers(1, length + 1, rows)[:, None]
    return params, tokens, targets, real


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probable_bounds_hold_and_are_not_wide(dtype):
    """The oracle run in this dtype uses at most a tenth of a bound that is at most 1e5 u wide."""
    params, tokens, targets, real = ordinary_model(2, 9)
    args = params, tokens, targets, real, real, dict(model.DEFAULT_CONFIG)
    simulated = bounds.simulate(gradients.loss_and_gradients, *args)
    got = SUBJECT["loss_and_gradients"](*to(dtype, *args))
    expected = bounds.map_arrays(lambda x: x.bounded(dtype), simulated)
    assert bounds.compare_all(got, expected).ratio < 0.1
    for name, x in bounds.named_arrays(expected):
        assert x.bound.max() <= 1e5 * unit_roundoff(dtype) * np.abs(x.value).max(), name


def test_probable_bounds_see_small_mistakes():
    """In double precision: eps 1e-5 taken as 1.01e-5, and one weight of 103,680 off by a millionth of itself."""
    params, tokens, _, real = ordinary_model(2, 9)
    config = dict(model.DEFAULT_CONFIG)
    expected = bounds.probable(model.forward, params, tokens, real, config, dtype=np.float64)
    eps = model.forward(params, tokens, real, config | {"ln_eps": 1.01e-5})
    assert bounds.compare(eps, expected.value, expected.bound).ratio > 100.0
    weight = params["block_0.attn.W_v"].copy()
    weight[3, 5] *= 1.0 + 1e-6
    nudged = model.forward(params | {"block_0.attn.W_v": weight}, tokens, real, config)
    assert bounds.compare(nudged, expected.value, expected.bound).ratio > 100.0


def test_a_worst_case_is_no_use_for_a_whole_model():
    """Why there are two kinds of bound: the worst case of a default model is wider than its logits."""
    params, tokens, _, real = ordinary_model(1, 5)
    result = bounds.worst_case(
        model.forward, params, tokens, real, dict(model.DEFAULT_CONFIG), dtype=np.float32
    )
    assert not np.all(result.bound < np.abs(result.value).max())


def in_every_way(x, weight, row, places):
    """Whatever an oracle may do with arrays."""
    y = x @ weight + row
    y = np.concatenate(
        [y - np.max(y, axis=0, keepdims=True), row * np.ones((1, 4)), y.swapaxes(0, 1).T], axis=0
    )
    z = y.reshape(1, -1, 4)[..., places].swapaxes(1, 2)[0]
    z = np.take_along_axis(z, np.argsort(places)[:, None], axis=0).reshape((4, -1)).T
    z = np.where(np.arange(4) < 3, z, 0.5) * (2.0**0.5)
    spread = z.var(axis=0) + z.std(axis=1).sum() + np.max(z) * z.mean()
    return z, np.exp(z[:, 0])[:, None] + row, spread, z.sum(), z.copy()[1, 2]


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("unit", [0.0, monte_carlo.SIMULATED])
def test_runs_beside_each_other_are_those_of_the_oracle(draws, unit):
    """They are the oracle's where nothing is lost, and are not where something is."""
    rng, places = np.random.default_rng(3), np.array([2, 0, 3, 1])
    args = rng.standard_normal((3, 5)), rng.standard_normal((5, 4)), rng.standard_normal(4), places
    kind = monte_carlo.Perturbed.with_signs(monte_carlo.RandomSigns(0, draws))
    simulated = in_every_way(*bounds.traced(args, kind, unit))
    expected = bounds.worst_case(in_every_way, *args, dtype=np.float64)
    for bounded, x in zip(expected, simulated, strict=True):
        runs = x.parts[0]
        assert runs.shape == (2 * draws, *bounded.value.shape) and x.shape == bounded.value.shape
        assert all(bounds.compare(run, bounded.value, bounded.bound).within is (unit == 0.0) for run in runs)


def lost(oracle, draws, *args):
    """What each run lost in units roundoff, [runs, ...]; the simulation itself is off by less than 2^-10 of one."""
    kind = monte_carlo.Perturbed.with_signs(monte_carlo.RandomSigns(0, draws))
    runs = oracle(*bounds.traced(args, kind, monte_carlo.SIMULATED)).parts[0]
    errors = (runs - oracle(*args)) / monte_carlo.SIMULATED
    assert np.all(np.abs(errors - np.round(errors)) < 2.0**-10)
    return np.round(errors)


def test_coins_are_tossed_for_an_operation_and_for_an_entry():
    """1 + 1 loses 2 units, a sum of n ones n (n - 1), and each of their entries has a coin of its own, or none has."""
    common, single = np.split(lost(lambda x: x + 1.0, 16, np.ones((4, 5))), 2)
    assert set(common.flat) == set(single.flat) == {-2.0, 2.0}
    assert all(np.ptp(run) == 0.0 for run in common) and {run.flat[0] for run in common} == {-2.0, 2.0}
    assert all(np.ptp(run) > 0.0 for run in single) and len({run.tobytes() for run in single}) == 16
    common, single = np.split(lost(lambda x: x.sum(axis=1), 16, np.ones((4, 5))), 2)
    assert set(common.flat) == set(single.flat) == {-20.0, 20.0}
    assert all(np.ptp(run) == 0.0 for run in common) and any(np.ptp(run) > 0.0 for run in single)


def test_a_constant_has_a_coin_of_its_own():
    """One that float32 cannot hold loses a unit, and its sum with 0 another: they add up or cancel."""
    assert set(lost(lambda x: x + (1.0 + 2.0**-30), 16, np.zeros(1)).flat) == {-2.0, 0.0, 2.0}
    assert set(lost(lambda x: x + 1.0, 16, np.zeros(1)).flat) == {-1.0, 1.0}


@pytest.mark.parametrize("draws", [1, 5])
def test_a_deviation_is_that_of_both_kinds_of_run(draws):
    """Each run of either kind is 2 units off, all in all sqrt(2^2 + 2^2)."""
    simulated = bounds.simulate(lambda x: x + 1.0, np.ones((2, 3)), draws=draws)
    assert np.all(np.abs(simulated.deviation - math.sqrt(8.0)) < 2.0**-10)


def test_several_indices_pick_the_same_of_each_run():
    x, places = np.arange(60.0).reshape(3, 4, 5), np.array([2, 1])
    for index in (
        (places, slice(None), places),
        (0, slice(None), places),
        (..., places),
        (1, slice(None), 2),
    ):
        plain = x[index] + 0.0
        simulated = bounds.simulate(lambda x, index=index: x[index] + 0.0, x, draws=1)
        assert simulated.value.tobytes() == plain.tobytes()
        assert np.all(
            np.abs(simulated.deviation - math.sqrt(2.0) * plain) < 2.0**-10 * np.maximum(plain, 1.0)
        )


def test_a_product_with_a_vector_is_not_taken_for_one_with_many():
    kind = monte_carlo.Perturbed.with_signs(monte_carlo.RandomSigns(0, 1))
    matrix, vector = bounds.traced((np.eye(2), np.ones(2)), kind, monte_carlo.SIMULATED)
    with pytest.raises(TypeError, match="make it a matrix"):
        matrix @ vector


def test_simulations_are_repeatable():
    params, tokens, _, real = ordinary_model(1, 3)
    args = params, tokens, real, dict(model.DEFAULT_CONFIG)
    first, again = (bounds.simulate(model.forward, *args, draws=2).deviation for _ in range(2))
    assert first.tobytes() == again.tobytes()


def nll_sum(params, tokens, targets, real):
    nll = loss.token_nll(model.forward(params, tokens, real, dict(model.DEFAULT_CONFIG)), targets)
    return np.where(real, nll, 0.0).sum()


def test_a_data_set_is_bounded_in_seconds():
    """100 sequences of length 32 through the default model: 2 seconds of processor time at most, for a bound of use."""
    params, tokens, targets, real = ordinary_model(100, 32)
    start = time.process_time()
    result = bounds.probable(nll_sum, params, tokens, targets, real, dtype=np.float64, draws=1)
    assert time.process_time() - start < 4.0
    assert result.bound < 1e-9 * result.value


# --- comparison ---


def test_comparison_is_strict():
    value, bound = np.array([[1.0, 2.0], [3.0, np.inf]]), np.full((2, 2), 0.5)
    assert bounds.compare(value + np.array([[0.25, 0.0], [0.0, 0.0]]), value, bound).ratio == 0.5
    beyond = bounds.compare(value + np.array([[0.0, 1.0], [2.0, 0.0]]), value, bound, "x")
    assert (beyond.ratio, beyond.where, beyond.got, beyond.within) == (4.0, "x[0, 1]", 3.0, False)
    assert bounds.compare(np.full((2, 2), np.nan), value, bound).ratio == math.inf
    assert bounds.compare(np.ones((2, 3)), value, bound).ratio == math.inf
    assert bounds.compare(np.ones((0, 3)), np.ones((0, 3)), np.ones((0, 3))).within


def test_a_bound_of_zero_asks_for_equality():
    assert bounds.compare([1.0], [1.0], [0.0]).within
    assert not bounds.compare([1.0 + DOUBLE * 2], [1.0], [0.0]).within


def test_missing_and_extra_results_are_named():
    expected = {"a": bounds.Bounded(np.ones(2), np.ones(2)), "b": bounds.Bounded(np.ones(2), np.ones(2))}
    found = bounds.compare_all({"a": np.ones(2), "c": np.ones(2)}, expected)
    assert found.ratio == math.inf
    assert "['b']" in found.where
    assert "['c']" in found.where
