"""What is recovered from an update alone: gradient, second moment, weights, norm; each with its bound."""

import itertools
import math

import numpy as np
import pytest

from reference import bounds, optimizer
from reference.clipping import clip_by_global_norm
from reference.low_precision import low_precision
from reference.recovered_gradient import gradient, reached, second_moment, unit_of_constants, wide
from reference.recovered_norm import clipped, left_of, norm
from reference.recovered_update import Fit, Form, Tensor, correction, direction, expected, fit, fits, ratio

DTYPES = [np.float32, np.float64]
B1, B2, EPS, LR, WD = 0.9, 0.95, 1e-8, 3e-3, 0.1


def drawn(seed, dtype, n=4000):
    """p, g, m, v of all sizes, as an optimizer has them."""
    rng = np.random.default_rng(seed)
    g, m = (rng.normal(size=n) * 10.0 ** rng.uniform(-8, 1, n) for _ in range(2))
    v, p = (m * 10.0 ** rng.uniform(-1, 1, n)) ** 2, rng.normal(size=n) * 10.0 ** rng.uniform(-4, 1, n)
    return tuple(x.astype(dtype) for x in (p, g, m, v))


def moments(m, g, beta, form):
    """beta m + (1 - beta) g in the dtype of m, in one of the forms in use."""
    dtype = m.dtype.type
    b, w = dtype(beta), dtype(1.0 - beta)
    if form == "sum":
        return b * m + w * g
    return m + w * (g - m)


@pytest.mark.parametrize("form", ["sum", "lerp"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_recovered_within_its_bound(dtype, form):
    _, g, m, v = drawn(0, dtype)
    m1 = moments(m, g, B1, form)
    found = gradient(m, m1, beta1=B1)
    share = np.abs(wide(g) - found.value) / found.bound
    assert 0.3 < share.max() <= 1.0  # never beyond, and not far below
    v1 = moments(v, g * g, B2, form)
    due = second_moment(v, v1, found, beta2=B2)
    assert 0.05 < (np.abs(wide(v1) - due.value) / due.bound).max() <= 1.0
    off = second_moment(v, moments(v, g * g, 0.951, form), found, beta2=B2)
    assert (np.abs(wide(moments(v, g * g, 0.951, form)) - off.value) / off.bound).max() > 1e3


def test_constants_in_the_dtype_of_the_arrays_widen_the_bound():
    _, g, m, _ = drawn(1, np.float32)
    w = np.float32(1) - np.float32(B1)  # four units of 1 - beta1 off
    m1 = np.float32(B1) * m + w * g
    narrow, widened = gradient(m, m1, beta1=B1), gradient(m, m1, beta1=B1, scalars="dtype")
    off = np.abs(wide(g) - widened.value)
    assert (off > narrow.bound).any()
    assert (off <= widened.bound).all()
    assert unit_of_constants(2.0**-24, "double") == 2.0**-53


def test_a_gradient_of_zero_is_not_reached():
    m = np.full(50, 0.25, np.float32)
    assert not reached(gradient(m, np.float32(B1) * m, beta1=B1))
    assert reached(gradient(m, np.float32(B1) * m + np.float32(1e-3), beta1=B1))


# ---- the weights

ORDERS, PLACES = ("before", "with", "after"), ("after correction", "before correction")


def stepped(form, p, m, v, t, dtype):
    """The weights after a step, in the arithmetic of the dtype."""
    c1, c2 = 1.0 - B1**t, 1.0 - B2**t
    if form.eps_place == "after correction":
        d = (m / dtype(c1)) / (np.sqrt(v) / dtype(math.sqrt(c2)) + dtype(EPS))
    else:
        d = dtype(math.sqrt(c2) / c1) * m / (np.sqrt(v) + dtype(EPS))
    if form.decay == "before":
        return p * dtype(1.0 - LR * WD) - dtype(LR) * d
    if form.decay == "with":
        return p - dtype(LR) * (d + dtype(WD) * p)
    q = p - dtype(LR) * d
    return q * dtype(1.0 - LR * WD)


@pytest.mark.parametrize("t", [1, 2, 30, 4000])
@pytest.mark.parametrize(("order", "place"), list(itertools.product(ORDERS, PLACES)))
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_weights_are_within_their_bound(dtype, order, place, t):
    form = Form(B1, B2, EPS, order, place)
    p, _, m, v = drawn(t, dtype)
    x = Tensor(p, stepped(form, p, m, v, t, dtype), m, v)
    d = direction(form, t, x)
    assert 0.2 < ratio(x, expected(form, x, d, LR, WD)) <= 1.0
    assert ratio(x, expected(form, x, d, LR * 1.0001, WD)) > 10.0
    assert ratio(x, expected(form, x, d, LR, WD * 1.01)) > 2.0


@pytest.mark.parametrize(("order", "place"), list(itertools.product(ORDERS, PLACES)))
def test_the_value_is_the_oracles(order, place):
    """reference.optimizer, from the same moments; and the bound is of the size of its running error."""
    form, t = Form(B1, B2, EPS, order, place), 7
    p, g, m, v = (x.astype(np.float64) for x in drawn(3, np.float32))
    p1, m1, v1 = optimizer.adamw_step(
        p, g, m, v, t=t, lr=LR, beta1=B1, beta2=B2, eps=EPS, weight_decay=WD, decay=order, eps_place=place
    )
    x = Tensor(p, p1, m1, v1)
    found = expected(form, x, direction(form, t, x), LR, WD)
    np.testing.assert_allclose(found.value.astype(np.float64), p1, rtol=0, atol=1e-14 * np.abs(p1).max())

    def from_moments(p, m1, v1):
        corrected = m1 / (1.0 - B1**t), np.sqrt(v1 / (1.0 - B2**t))
        if place == "after correction":
            d = corrected[0] / (corrected[1] + EPS)
        else:
            d = math.sqrt(1.0 - B2**t) / (1.0 - B1**t) * m1 / (np.sqrt(v1) + EPS)
        return optimizer.decayed(p, d, LR, WD, order)

    running = bounds.worst_case(from_moments, p, m1, v1, dtype=np.float64).bound
    share = running / found.bound
    assert 0.2 < np.median(share) < 2.0


def test_the_bias_correction_is_exact_where_a_power_is_not():
    assert float(correction(0.5, 3)) == 0.875
    assert abs(float(correction(0.999, 1)) - 0.001) < 1e-18
    assert float(correction(0.9, 10**6)) == 1.0


@pytest.mark.parametrize("order", ORDERS)
def test_rate_and_decays_are_found_again(order):
    form = Form(B1, B2, EPS, order)
    used, decays = 2.5e-3, {"a": 0.3, "b": 0.0}
    tensors = {}
    for seed, name in enumerate(decays):
        p, _, m, v = drawn(seed, np.float64)
        bare = Tensor(p, p, m, v)
        value = expected(form, bare, direction(form, 5, bare), used, decays[name]).value
        tensors[name] = Tensor(p, value.astype(np.float64), m, v)
    directions = {name: direction(form, 5, x) for name, x in tensors.items()}
    found = fit(form, tensors, directions, rate=LR, decay={"a": WD, "b": WD})
    assert abs(found.rate - used) < 1e-12 * used
    assert abs(found.decay["a"] - 0.3) < 1e-9
    assert abs(found.decay["b"]) < 1e-9
    assert max(fits(form, tensors, directions, found).values()) <= 1.05
    assert max(fits(form, tensors, directions, Fit(LR, {"a": WD, "b": WD})).values()) > 1e6


def test_a_weight_of_nan_is_beyond_every_bound():
    p, _, m, v = drawn(0, np.float32, 10)
    x = Tensor(p, np.full_like(p, np.nan), m, v)
    assert ratio(x, expected(Form(B1, B2, EPS), x, direction(Form(B1, B2, EPS), 1, x), LR, WD)) == math.inf


def test_bounds_are_for_single_and_double_precision():
    half = np.ones(3, np.float16)
    with pytest.raises(TypeError, match="not for float16"):
        gradient(half, half, beta1=B1)
    with pytest.raises(TypeError, match="not for float16"):
        _ = Tensor(half, half, half, half).unit


# ---- norms


@pytest.mark.parametrize("clip", ["exact", "torch", "optax", "cs336"])
@pytest.mark.parametrize("total", [0.0, 0.5, 1.0 - 1e-9, 1.0, 1.0 + 1e-9, 1.7, 1e6])
def test_the_norm_that_is_left_is_that_of_the_oracle(clip, total):
    g, _ = clip_by_global_norm([np.array([total * 0.6, total * 0.8])], 1.0, clip=clip)
    due = left_of(total, 1.0, clip, numbers=2, unit=2.0**-24)
    assert abs(np.linalg.norm(g[0]) - due.value) <= due.bound + 1e-15
    assert clipped(total, None, clip) == total


def test_a_norm_is_off_by_no_more_than_its_parts():
    _, g, m, _ = drawn(5, np.float32)
    found = norm([gradient(m, moments(m, g, B1, "sum"), beta1=B1)])
    assert abs(np.linalg.norm(g.astype(np.float64)) - found.value) <= found.bound
    assert found.bound < 1e-4 * found.value


# ---- precision


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_numbers_of_16_bits_are_told(name):
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    if name == "bfloat16":
        rounded = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    else:
        rounded = x.astype(np.float16).astype(np.float32)
    assert low_precision(rounded) == name
    assert low_precision(rounded.astype(np.float64)) == name
    assert low_precision(x) == ""
    mixed = rounded.copy()
    mixed[50] = x[50]
    assert low_precision(mixed) == ""


def test_zeros_and_ones_tell_nothing():
    assert low_precision(np.zeros(1000, np.float32)) == ""
    assert low_precision(np.tile(np.array([0, 1, -1], np.float32), 100)) == ""
    assert low_precision(np.full(7, 0.5, np.float32)) == ""
    assert low_precision(np.ones(3, np.float16)) == "float16"
