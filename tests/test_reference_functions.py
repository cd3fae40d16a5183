"""The oracles against independent statements: plain loops, hand-made cases, other libraries' rounding."""

import cmath
import math
from typing import Any

import numpy as np
import pytest

from reference import (
    activation,
    attention,
    clipping,
    data,
    loss,
    masks,
    model,
    normalisation,
    optimizer,
    rotary,
    rounding,
    schedule,
)

RNG = np.random.default_rng(3)
CLOSE = 1e-13  # relative to numbers of size 1: the loops below round differently in the last digits only


def test_cross_entropy_by_hand():
    """Two rows of 2 and 1 predicted tokens, each uniform over 4: the mean is log 4, the row means play no part."""
    logits, targets = np.zeros((2, 3, 4)), np.array([[1, 2, 0], [3, 0, 0]])
    mask = np.array([[True, True, False], [True, False, False]])
    value, gradient = loss.cross_entropy(logits, targets, mask)
    assert value == pytest.approx(math.log(4.0), rel=CLOSE)
    assert gradient[0, 0].tolist() == pytest.approx([1 / 12, -3 / 12, 1 / 12, 1 / 12], rel=CLOSE)
    assert not gradient[~mask].any()


def test_token_mean_is_not_the_mean_of_means():
    """Losses 1, 1, 1, 1 in one row and 4 in the other: 1.6 a token, 2.5 a row."""
    assert loss.masked_mean(np.array([[1.0] * 4, [4.0, 9, 9, 9]]), np.arange(4) < np.array([[4], [1]])) == 1.6


def test_masks_by_hand():
    got = masks.attention_mask(np.array([[False, True, False]]))[0, 0]
    assert got.tolist() == [[False, False, False], [False, True, False], [False, True, False]]


def test_attention_by_loops():
    q, k, v = RNG.normal(size=(3, 2, 2, 4, 6))
    key_mask = np.array([[True, False, True, True], [False, False, True, False]])
    got = attention.attention(q, k, v, key_mask)
    for b, h, i in np.ndindex(2, 2, 4):
        seen = [j for j in range(i + 1) if key_mask[b, j]]
        scores = [math.exp(sum(q[b, h, i] * k[b, h, j]) / math.sqrt(6)) for j in seen]
        mixed = sum((s * v[b, h, j] for s, j in zip(scores, seen, strict=True)), start=np.zeros(6))
        expected = mixed / sum(scores) if seen else np.zeros(6)
        assert np.abs(got[b, h, i] - expected).max() < CLOSE


def test_layer_norm_has_mean_zero_and_the_divisor_d():
    y = normalisation.layer_norm(np.array([[1.0, 2.0, 3.0, 6.0]]), np.ones(4), np.zeros(4), 0.0)
    assert y[0].tolist() == pytest.approx([x / math.sqrt(3.5) for x in (-2.0, -1.0, 0.0, 3.0)], rel=CLOSE)


def test_rope_as_complex_numbers():
    x = RNG.normal(size=(1, 1, 5, 6))
    got = rotary.rope(x, 100.0)
    for t, i in np.ndindex(5, 3):
        turned = complex(x[0, 0, t, i], x[0, 0, t, i + 3]) * cmath.exp(1j * t * 100.0 ** (-2 * i / 6))
        assert abs(complex(got[0, 0, t, i], got[0, 0, t, i + 3]) - turned) < CLOSE
    assert got[:, :, 0].tobytes() == x[:, :, 0].tobytes()


def test_adamw_first_step_is_the_sign_of_the_gradient():
    """As eps goes to 0: p - lr sign(g), for every size of g; and with g = 0, decay alone."""
    settings: dict[str, Any] = {"t": 1, "lr": 0.25, "beta1": 0.9, "beta2": 0.999, "eps": 1e-300}
    g, zero = np.array([1e-12, -3.0, 1e3, 0.0]), np.zeros(4)
    p, m, v = optimizer.adamw_step(np.ones(4), g, zero, zero, **settings, weight_decay=0.0)
    assert p == pytest.approx([0.75, 1.25, 0.75, 1.0], rel=CLOSE)
    assert m == pytest.approx(0.1 * g, rel=CLOSE)
    assert v == pytest.approx(0.001 * g * g, rel=CLOSE)
    assert (
        optimizer.adamw_step(np.ones(4), zero, zero, zero, **settings, weight_decay=0.5)[0].tolist()
        == [0.875] * 4
    )


def test_decay_is_for_matrices():
    names = list(model.parameter_shapes(model.DEFAULT_CONFIG))
    shapes = model.parameter_shapes(model.DEFAULT_CONFIG)
    assert optimizer.decays(names) == [len(shapes[name]) == 2 for name in names]


def test_clipping_by_hand():
    grads = [np.array([3.0]), np.array([[0.0, 4.0]])]
    clipped, norm = clipping.clip_by_global_norm(grads, 1.0)
    assert norm == 5.0
    assert np.concatenate([g.reshape(-1) for g in clipped]) == pytest.approx([0.6, 0.0, 0.8], rel=CLOSE)
    assert all(a is b for a, b in zip(clipping.clip_by_global_norm(grads, 5.0)[0], grads, strict=True))
    assert clipping.global_norm([np.full(4, 1e-200, dtype=np.float64) * 1e60]) == pytest.approx(
        2e-140, rel=CLOSE
    )


def test_the_table_of_the_schedule():
    """W = 4, N = 12, peak 1, floor 0.1, by hand."""
    expected = [0.25, 0.5, 0.75, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1, 0.1, 0.1]
    got = [schedule.learning_rate(s, peak=1.0, floor=0.1, warmup=4, total=12) for s in range(14)]
    assert [round(rate, 3) for rate in got] == expected
    assert got[11:] == [0.1] * 3


@pytest.mark.parametrize(("warmup", "total"), [(0, 0), (0, 1), (1, 1), (5, 3), (3, 3)])
def test_small_schedules(warmup, total):
    got = [
        schedule.learning_rate(s, peak=1.0, floor=0.1, warmup=warmup, total=total) for s in range(total + 1)
    ]
    warm = min(warmup, total)
    assert got[:warm] == [(s + 1) / warm for s in range(warm)]
    assert got[total] == 0.1


def test_half_precision_rounding_is_that_of_numpy():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    finite = np.unique(every[np.isfinite(every)])
    between = [finite[:-1] + share * np.diff(finite) for share in (0.25, 0.5, 0.5000001, 0.75)]
    x = np.concatenate([finite, *between, [65519.99, 65520.0, 1e300, np.inf, -np.inf, -0.0]])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float64)
    assert rounding.round_weights(x, "float16").tobytes() == expected.tobytes()
    assert math.isnan(rounding.round_weights(np.array([np.nan]), "float16")[0])


def test_bfloat16_rounding_is_that_of_the_bits():
    """Of a float32, bfloat16 keeps the upper 16 bits; adding 0x7fff plus the last kept bit rounds to nearest even."""
    bits = np.concatenate(
        [RNG.integers(0, 2**32, 4000, dtype=np.uint32), np.arange(0, 2**32, 2**15, dtype=np.uint32)]
    )
    x = bits.view(np.float32)
    x = x[np.isfinite(x)]
    bits = x.view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    expected = kept.astype(np.uint32).view(np.float32)
    got = rounding.round_weights(x, "bfloat16")
    assert got.dtype == np.float32
    assert got.tobytes() == expected.tobytes()


def test_a_batch_by_hand():
    inputs, targets, loss_mask, key_mask = data.make_batch([[1, 3, 0, 2], [1, 2]])
    assert inputs.tolist() == [[1, 3, 0], [1, 0, 0]]
    assert targets.tolist() == [[3, 0, 2], [2, 0, 0]]
    assert loss_mask.tolist() == key_mask.tolist() == [[True] * 3, [True, False, False]]


def test_batches_cut_each_epoch_on_its_own():
    stream = data.batches(5, 2, 0)
    got = [next(stream) for _ in range(6)]
    assert [(epoch, len(indices)) for epoch, indices in got] == [
        (0, 2),
        (0, 2),
        (0, 1),
        (1, 2),
        (1, 2),
        (1, 1),
    ]
    for epoch in (0, 1):
        indices = np.concatenate([i for e, i in got if e == epoch])
        assert indices.tolist() == data.epoch_order(5, 0, epoch).tolist()


def test_the_locked_model():
    shapes = model.parameter_shapes(model.DEFAULT_CONFIG)
    assert model.parameter_count(model.DEFAULT_CONFIG) == 103_680
    assert shapes["E"] == (64, 64)
    assert shapes["block_1.ffn.W_1"] == (64, 256)
    assert len(shapes) == 1 + 2 * 12 + 2
    assert [model.initial_law(n) for n in ("E", "block_0.ln1.gamma", "block_0.ffn.b_2")] == [
        "normal",
        "ones",
        "zeros",
    ]


def test_zero_weights_give_a_uniform_model():
    params = {name: np.zeros(shape) for name, shape in model.parameter_shapes(model.DEFAULT_CONFIG).items()}
    tokens = np.arange(12).reshape(2, 6)
    logits = model.forward(params, tokens, np.ones((2, 6), dtype=bool), model.DEFAULT_CONFIG)
    assert loss.token_nll(logits, tokens) == pytest.approx(np.log(64.0), rel=CLOSE)


def test_layers_are_named_and_dropout_reaches_every_site():
    params = {
        name: RNG.normal(size=shape) for name, shape in model.parameter_shapes(model.DEFAULT_CONFIG).items()
    }
    sites = []

    def record(x, site):
        sites.append(site)
        return x

    layers = model.forward_layers(
        params, np.zeros((1, 3), int), np.ones((1, 3), bool), model.DEFAULT_CONFIG, record
    )
    assert list(layers) == ["embed_out", "block_0_out", "block_1_out", "final_ln_out", "logits"]
    assert sites == [0, 1, 2, 3, 4]


SCHEDULES = {
    "honestloop": [0.25, 0.5, 0.75, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1, 0.1, 0.1],
    "nanogpt": [0.2, 0.4, 0.6, 0.8, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1, 0.1],
    "llm.c": [0.25, 0.5, 0.75, 1.0, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1, None],
    "huggingface": [0.0, 0.25, 0.5, 0.75, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038, 0.0, 0.038],
    "cs336": [0.0, 0.25, 0.5, 0.75, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1, 0.1],
    "torchtitan": [0.25, 0.5, 0.75, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1, 0.134, 0.232],
    "optax": [0.0, 0.25, 0.5, 0.75, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1, 0.1],
    "linear": [0.0, 0.25, 0.5, 0.75, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0, 0.0],
    "constant": [0.0, 0.25, 0.5, 0.75, *[1.0] * 10],
    "uncut": [0.25, 0.5, 0.75, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1, 0.1, 0.1],
    "warmdown": [0.25, 0.5, 0.75, 1.0, 1.0, 0.887, 0.775, 0.662, 0.55, 0.438, 0.325, 0.213, 0.1, None],
}
"""Rates of steps 0 .. 13 with W = 4, N = 12, peak 1, floor 0.1 (0 for those of transformers), as the code bases give
them."""


@pytest.mark.parametrize("variant", sorted(schedule.VARIANTS))
def test_the_table_of_every_schedule(variant):
    settings: dict[str, Any] = {"warmup": 4, "total": 12, "schedule": variant}
    floor = 0.0 if variant in schedule.WARMS_UP_FROM_ZERO else 0.1
    rates: Any = SCHEDULES[variant]
    for step, rate in enumerate(rates):
        assert schedule.defined(step, **settings) is (rate is not None)
        if rate is None:
            with pytest.raises(ValueError, match=rf"{variant} has no rate for step 13"):
                schedule.learning_rate(step, peak=1.0, floor=floor, **settings)
        else:
            assert round(schedule.learning_rate(step, peak=1.0, floor=floor, **settings), 3) == rate


@pytest.mark.parametrize("variant", sorted(schedule.VARIANTS))
def test_a_schedule_has_a_rate_wherever_it_is_defined(variant):
    """Degenerate ones as well: whatever `defined` admits is a rate between 0 and the peak."""
    for total, warmup, step in np.ndindex(5, 7, 9):
        settings: dict[str, Any] = {"warmup": warmup, "total": total, "schedule": variant}
        if schedule.defined(step, **settings):
            rate = schedule.learning_rate(step, peak=1.0, floor=0.1, **settings)
            assert 0.0 <= rate <= 1.0
        else:
            with pytest.raises(ValueError):
                schedule.learning_rate(step, peak=1.0, floor=0.1, **settings)


@pytest.mark.parametrize(
    ("decay", "eps_place", "expected"),
    [
        ("before", "after correction", 2.0 * (1 - 0.5 * 0.25) - 0.5 * 4.0 / (4.0 + 1.0)),
        ("with", "after correction", 2.0 - 0.5 * (4.0 / (4.0 + 1.0) + 0.25 * 2.0)),
        ("after", "after correction", (2.0 - 0.5 * 4.0 / (4.0 + 1.0)) * (1 - 0.5 * 0.25)),
        ("before", "before correction", 2.0 * (1 - 0.5 * 0.25) - 0.5 * 4.0 / (4.0 + 1.0 / math.sqrt(0.25))),
    ],
)
def test_adamw_variants_by_hand(decay, eps_place, expected):
    """First update with g = 4, b1 = 1/2, b2 = 3/4, eps = 1: m / c1 = 4, sqrt(v / c2) = 4."""
    one = np.ones(1)
    p, m, v = optimizer.adamw_step(
        2.0 * one,
        4.0 * one,
        0.0 * one,
        0.0 * one,
        t=1,
        lr=0.5,
        beta1=0.5,
        beta2=0.75,
        eps=1.0,
        weight_decay=0.25,
        decay=decay,
        eps_place=eps_place,
    )
    assert (m[0], v[0]) == (2.0, 4.0)
    assert p[0] == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize(
    ("clip", "max_norm", "factor"),
    [
        ("exact", 5.0, 1.0),
        ("exact", 1.0, 1 / 5),
        ("optax", 5.0, 1.0),
        ("optax", 1.0, 1 / 5),
        ("torch", 5.0, 5 / (5 + 1e-6)),
        ("torch", 6.0, 1.0),
        ("torch", 1.0, 1 / (5 + 1e-6)),
        ("cs336", 5.0, 5 / (5 + 1e-6)),
        ("cs336", 5.0000001, 1.0),
        ("cs336", 1.0, 1 / (5 + 1e-6)),
    ],
)
@pytest.mark.parametrize("norm", ["double", "dtype"])
def test_clipping_variants_by_hand(clip, max_norm, factor, norm):
    grads = [np.array([3.0]), np.array([[0.0, 4.0]])]
    clipped, length = clipping.clip_by_global_norm(grads, max_norm, clip=clip, norm=norm)
    assert length == 5.0
    assert np.concatenate([g.reshape(-1) for g in clipped]) == pytest.approx(
        [3 * factor, 0, 4 * factor], rel=CLOSE
    )
    assert all(a.tobytes() == b.tobytes() for a, b in zip(clipped, grads, strict=True)) is (factor == 1.0)
    if clipping.untouched(float(length), max_norm, clip=clip):
        assert factor == 1.0


def test_what_the_norm_in_the_dtype_is_not_asked_about():
    def asked(size, dtype, norm="dtype"):
        return clipping.comparable([np.full(3, size)], dtype=dtype, norm=norm)

    assert asked(1e25, np.float32, "double")
    assert [asked(size, np.float32) for size in (1e25, 1e18, 1.0, 1e-9, 1e-30, 0.0)] == [
        False,
        True,
        True,
        True,
        False,
        True,
    ]
    assert asked(1e25, np.float64)


def test_neighbours_are_halves_in_another_order():
    """Feature 2i of one is feature i of the other, 2i + 1 is i + K/2."""
    x = RNG.normal(size=(2, 1, 5, 6))
    order = [0, 2, 4, 1, 3, 5]
    for function in (rotary.rope, rotary.rope_backward):
        assert np.array_equal(
            function(x, 100.0, pairing="neighbours")[..., order], function(x[..., order], 100.0)
        )


def test_gelu_with_tanh_is_the_published_formula():
    x = RNG.normal(size=50)
    expected = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    assert np.abs(activation.gelu(x, form="tanh") - expected).max() < CLOSE
    assert 1e-5 < np.abs(activation.gelu(x, form="tanh") - activation.gelu(x)).max() < 5e-4


def test_silu_and_rms_norm_by_hand():
    assert activation.silu(np.array([0.0, math.log(3.0)])) == pytest.approx(
        [0.0, 0.75 * math.log(3.0)], rel=CLOSE
    )
    got = normalisation.rms_norm(np.array([[1.0, 7.0]]), np.array([2.0, 3.0]), 11.0)
    assert got[0].tolist() == pytest.approx([2 / 6, 21 / 6], rel=CLOSE)


def test_windows_of_a_text_start_everywhere_and_fit():
    text = np.arange(7)
    inputs, targets = data.sample_batch(text, 400, 4, 0)
    assert set(inputs[:, 0]) == {0, 1, 2}
    assert np.array_equal(inputs, inputs[:, :1] + np.arange(4))
    assert np.array_equal(targets, inputs + 1)
    assert data.sample_batch(text, 2, 6, 5)[0].tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    with pytest.raises(ValueError, match="7 tokens have no window of 7"):
        data.sample_batch(text, 1, 7, 0)
