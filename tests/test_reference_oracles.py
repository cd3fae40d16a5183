"""Certificates: how far each oracle is from exact arithmetic (50 digits), and from an independent statement of it."""

import math
from typing import Any

import numpy as np
import pytest

from properties.test_contract import sample_calls
from reference import activation, bounds, clipping, loss, normalisation, optimizer, rotary, schedule
from reference.arithmetic import DOUBLE
from tests.fifty_digits import CONTEXT as mp
from tests.fifty_digits import error, in_fifty_digits

# Worst error of each oracle on its sample call, in units of 2^-53 times the largest entry of the result.
CERTIFIED = {
    "accumulated_loss": 2.0,
    "adamw_step": 2.0,
    "attention": 2.0,
    "attention_backward": 4.0,
    "clip_by_global_norm": 2.0,
    "cross_entropy": 2.0,
    "dropout": 1.0,
    "forward": 4.0,
    "gelu": 1.0,
    "gelu_backward": 2.0,
    "ignoring_cross_entropy": 2.0,
    "layer_norm": 2.0,
    "layer_norm_backward": 3.0,
    "loss_and_gradients": 10.0,
    "matmul": 2.0,
    "rope": 2.0,
    "rope_backward": 2.0,
    "softcap": 2.0,
    "softcap_backward": 2.0,
    "training_loss": 2.0,
    "window_attention": 2.0,
    "window_attention_backward": 4.0,
}
DEEP = {"forward", "loss_and_gradients"}


@pytest.mark.parametrize("name", sorted(CERTIFIED))
def test_an_oracle_is_this_close_to_fifty_digits(name):
    """And its own bound covers the error."""
    oracle, args, kwargs = sample_calls()[name]
    plain = dict(bounds.named_arrays(oracle(*args, **kwargs)))
    exact = dict(bounds.named_arrays(oracle(*in_fifty_digits(args), **in_fifty_digits(kwargs))))
    bounded = (bounds.probable if name in DEEP else bounds.worst_case)(
        oracle, *args, dtype=np.float64, **kwargs
    )
    assert plain.keys() == exact.keys()
    for part, allowed in bounds.named_arrays(bounded):
        found = error(plain[part], exact[part])
        unit = DOUBLE * np.abs(plain[part]).max()
        assert found.max() <= CERTIFIED[name] * unit, f"{name}{part}: {found.max() / unit:.2f} units"
        assert np.all(found <= allowed.bound)


RNG = np.random.default_rng(9)
ADAMW: dict[str, Any] = {"t": 3, "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}
STATE = [RNG.normal(size=60), *(10.0 ** RNG.uniform(-9, 1, (3, 60)))]
ROWS, GAIN = 2.0 * RNG.normal(size=(5, 8)), RNG.normal(size=8)
HEADS, GRADS = RNG.normal(size=(2, 1, 6, 8)), [RNG.normal(size=(3, 5)), RNG.normal(size=7)]
VARIANTS: dict[str, tuple[float, Any, tuple[Any, ...], dict[str, Any]]] = {
    "adamw, decay with": (9.0, optimizer.adamw_step, (*STATE,), ADAMW | {"decay": "with"}),
    "adamw, decay after": (9.0, optimizer.adamw_step, (*STATE,), ADAMW | {"decay": "after"}),
    "adamw, eps before": (9.0, optimizer.adamw_step, (*STATE,), ADAMW | {"eps_place": "before correction"}),
    "clip, torch": (3.0, clipping.clip_by_global_norm, (GRADS, 0.5), {"clip": "torch"}),
    "clip, torch, left alone": (1.0, clipping.clip_by_global_norm, (GRADS, 50.0), {"clip": "torch"}),
    "clip, cs336": (3.0, clipping.clip_by_global_norm, (GRADS, 0.5), {"clip": "cs336", "norm": "dtype"}),
    "clip, optax": (2.0, clipping.clip_by_global_norm, (GRADS, 0.5), {"clip": "optax", "norm": "dtype"}),
    "rope, neighbours": (2.0, rotary.rope, (HEADS, 100.0), {"pairing": "neighbours"}),
    "rope backward, neighbours": (2.0, rotary.rope_backward, (HEADS, 100.0), {"pairing": "neighbours"}),
    "gelu, tanh": (2.0, activation.gelu, (ROWS,), {"form": "tanh"}),
    "gelu backward, tanh": (8.0, activation.gelu_backward, (ROWS, ROWS[::-1].copy()), {"form": "tanh"}),
    "silu": (2.0, activation.silu, (ROWS,), {}),
    "rms norm": (3.0, normalisation.rms_norm, (ROWS, GAIN, 1e-5), {}),
    "softmax": (2.0, loss.softmax, (ROWS,), {}),
}
"""Name -> worst error in the units of CERTIFIED, oracle, arguments, keyword arguments. The updates are large beside p,
and 1 - 0.99^3 has lost some 30 units: the square root of that is theirs."""


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_is_this_close_to_fifty_digits(name):
    """And its own bounds cover the error, with hyper-parameters in double precision and in the arrays' dtype."""
    units, oracle, args, kwargs = VARIANTS[name]
    plain = dict(bounds.named_arrays(oracle(*args, **kwargs)))
    exact = dict(bounds.named_arrays(oracle(*in_fifty_digits(args), **in_fifty_digits(kwargs))))
    for part, x in plain.items():
        found = error(x, exact[part])
        unit = DOUBLE * np.abs(x).max()
        assert found.max() <= units * unit, f"{name}{part}: {found.max() / unit:.2f} units"
        for scalars in ("double", "dtype"):
            bounded = bounds.worst_case(oracle, *args, dtype=np.float64, scalars=scalars, **kwargs)
            assert np.all(found <= dict(bounds.named_arrays(bounded))[part].bound)


def test_every_oracle_of_the_protocol_is_certified():
    exact_by_definition = {"round_weights"}
    certified_as_variants = {name for name in sample_calls() if name.replace("_", " ") in VARIANTS}
    assert sample_calls().keys() - exact_by_definition - certified_as_variants == CERTIFIED.keys()


def digits(x):
    return mp.mpf(float(x))


def ulps(got, exact):
    return float(abs(digits(got) - exact) / mp.mpf(math.ulp(float(exact))))


def arguments():
    rng = np.random.default_rng(0)
    return np.concatenate(
        [2.0 * rng.normal(size=400), np.linspace(-6.0, 6.0, 241), 10.0 ** rng.uniform(-300, 0, 50)]
    )


def test_erf_is_within_four_ulps():
    x = arguments()
    assert max(ulps(y, mp.erf(digits(z))) for y, z in zip(activation.erf(x), x, strict=True)) <= 4.0


def test_gelu_is_within_two_units_of_its_argument():
    """|error| <= 2 u |x|: near 0 and to the right that is 2 ulps; in the left tail 1 + erf cancels."""
    for y, z in zip(activation.gelu(arguments()), arguments(), strict=True):
        exact = digits(z) * mp.erfc(-digits(z) / mp.sqrt(2)) / 2
        assert abs(digits(y) - exact) <= 2 * DOUBLE * abs(digits(z))


def test_log_sum_exp_and_softmax_follow_the_range_of_the_logits():
    """Errors grow with R = max - min: within u (2 R + 4), of nll absolute, of softmax relative."""
    rng = np.random.default_rng(1)
    for scale in (0.1, 3.0, 100.0):
        logits, targets = scale * rng.normal(size=(40, 1, 11)), rng.integers(0, 11, (40, 1))
        nll, probabilities = loss.token_nll(logits, targets), loss.softmax(logits)
        for row in range(40):
            x = [digits(z) for z in logits[row, 0]]
            log_total = mp.log(mp.fsum(mp.exp(z) for z in x))
            spread = float(np.ptp(logits[row]))
            assert abs(digits(nll[row, 0]) - (log_total - x[targets[row, 0]])) <= DOUBLE * (
                2.0 * spread + 4.0
            )
            for got, z in zip(probabilities[row, 0], x, strict=True):
                exact = mp.exp(z - log_total)
                assert abs(digits(got) - exact) <= DOUBLE * (2.0 * spread + 4.0) * exact


@pytest.mark.parametrize("t", [1, 2, 7, 1000])
def test_adamw_units(t):
    """v within 2 ulps, m within 2 units; p within 4 units plus what 1 - beta2^t loses, t u beta2^t / (1 - beta2^t)."""
    rng = np.random.default_rng(t)
    p, m = rng.normal(size=60), 10.0 ** rng.uniform(-12, 3, 60)
    g, v = 10.0 ** rng.uniform(-12, 3, 60) * rng.choice([-1.0, 1.0], 60), 10.0 ** rng.uniform(-24, 6, 60)
    lr, beta1, beta2, eps, decay = 0.1, 0.9, 0.999, 1e-8, 0.5
    new = optimizer.adamw_step(p, g, m, v, t=t, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay)
    b1, b2 = digits(beta1), digits(beta2)
    lost = (t + 1) * beta2**t / (1.0 - beta2**t)
    for old_p, old_m, old_v, gradient, p1, m1, v1 in zip(p, m, v, g, *new, strict=True):
        terms = b1 * digits(old_m), (1 - b1) * digits(gradient)
        exact_v = b2 * digits(old_v) + (1 - b2) * digits(gradient) ** 2
        step = digits(lr) * (sum(terms) / (1 - b1**t)) / (mp.sqrt(exact_v / (1 - b2**t)) + digits(eps))
        exact_p = digits(old_p) * (1 - digits(lr) * digits(decay)) - step
        assert ulps(v1, exact_v) <= 2.0
        assert abs(digits(m1) - sum(terms)) <= 2 * DOUBLE * sum(map(abs, terms))
        assert abs(digits(p1) - exact_p) <= DOUBLE * (4 * abs(digits(old_p)) + (4 + lost) * abs(step))


@pytest.mark.parametrize("variant", sorted(schedule.VARIANTS))
@pytest.mark.parametrize(("warmup", "total"), [(7, 50), (0, 9), (2, 3)])
def test_learning_rate_stays_within_its_bound(variant, warmup, total):
    peak, floor = 2e-3, 2e-4
    settings: dict[str, Any] = {"warmup": warmup, "total": total, "schedule": variant}
    line = schedule.VARIANTS[variant]
    for step in range(total + 3):
        if not schedule.defined(step, **settings):
            continue
        got = schedule.learning_rate(step, peak=peak, floor=floor, **settings)
        share = mp.mpf(step - warmup + line.ahead) / (total - warmup)
        past = line.end == "floor" and share > 1
        cosine = digits(floor) + (digits(peak) - digits(floor)) * (1 + mp.cos(mp.pi * share)) / 2
        warm = digits(peak) * (step + line.warm[0]) / (warmup + line.warm[1]) if step < warmup else None
        line_down = digits(floor) + (digits(peak) - digits(floor)) * max(0, total - step) / (total - warmup)
        length = round(schedule.WARMDOWN_SHARE * total)
        down = digits(floor) + (digits(peak) - digits(floor)) * min(1, mp.mpf(total - step) / length)
        shapes = {"cosine": cosine, "linear": line_down, "constant": digits(peak), "warmdown": down}
        after = shapes[line.shape]
        exact = warm if warm is not None else digits(floor) if past and line.shape == "cosine" else after
        bound = bounds.learning_rate(peak=peak, floor=floor, half_turns=float(share))
        assert abs(digits(got) - exact) <= bound / 2
