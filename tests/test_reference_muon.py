"""The oracle of Muon against what is known of it: figures of the papers, an SVD, closed forms."""

from typing import Any

import numpy as np
import pytest

from reference import muon

RNG = np.random.default_rng(19)


@pytest.mark.parametrize(
    ("coefficients", "slope", "low", "interval"),
    [
        ("polar express", 989.468, 1e-3, (0.858873, 1.141127)),
        ("newton-schulz", 484.876, 1e-2, (0.681831, 1.134357)),
        ("newton-schulz", 484.876, 1e-3, (0.470544, 1.202369)),
    ],
)
def test_the_map_of_singular_values(coefficients, slope, low, interval):
    assert muon.mapped(1e-9, coefficients) / 1e-9 == pytest.approx(slope, abs=5e-4)
    values = [muon.mapped(float(s), coefficients) for s in np.geomspace(low, 1.0, 20001)]
    assert (min(values), max(values)) == pytest.approx(interval, abs=5e-7)


def test_beyond_one_it_diverges():
    assert muon.mapped(1.02) == pytest.approx(1.1366, abs=5e-5)
    assert muon.mapped(1.05) > 1e185


@pytest.mark.parametrize("shape", [(3, 3), (7, 3), (3, 7), (64, 16)])
@pytest.mark.parametrize("coefficients", list(muon.COEFFICIENTS))
def test_the_iteration_is_the_map_of_singular_values(shape, coefficients):
    g = RNG.standard_normal(shape)
    u, s, v = np.linalg.svd(g / (1.02 * np.linalg.norm(g) + 1e-6), full_matrices=False)
    law = (u * [muon.mapped(float(x), coefficients) for x in s]) @ v
    assert np.abs(muon.orthogonalize(g, coefficients=coefficients) - law).max() < 1e-12


def test_a_tall_matrix_is_its_transpose_turned_back():
    g = RNG.standard_normal((9, 4))
    assert np.abs(muon.orthogonalize(g).T - muon.orthogonalize(g.T)).max() < 1e-14


def test_identities_in_a_stack_and_flattened():
    """The figures of microsoft/dion#121."""
    stack = np.stack([np.eye(2), np.eye(2)])
    newton = {"coefficients": "newton-schulz", "start": "max(norm, 1e-7)"}
    assert muon.orthogonalize(stack)[1] == pytest.approx(1.1348 * np.eye(2), abs=5e-5)
    assert muon.orthogonalize(stack, **newton)[1] == pytest.approx(1.1081 * np.eye(2), abs=5e-5)
    flat = stack.reshape(2, 4)
    assert muon.orthogonalize(flat)[0].reshape(2, 2) == pytest.approx(0.4518 * np.eye(2), abs=5e-5)


def test_a_square_projection_cut_both_ways():
    """The figures of deepspeedai/DeepSpeed#8384."""
    g = np.diag([1.0, 2.0, 3.0, 4.0])
    g[0, 3] = 4.0
    columns, rows = (muon.orthogonalize_heads(g, 2, axis)[0] for axis in (-1, -2))
    assert columns == pytest.approx([0.9344, 0.0, 0.0, 0.6212], abs=5e-5)
    assert rows == pytest.approx([0.2591, 0.0, 0.0, 1.0366], abs=5e-5)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (2, 5, 3)])
def test_normuon_keeps_the_norm_and_evens_out_the_rows_at_first(shape):
    x = RNG.standard_normal(shape)
    axis = -1 if shape[-2] >= shape[-1] else -2
    new, second = muon.normalised(x, np.zeros_like(x.sum(axis=axis, keepdims=True)), 0.95)
    assert np.linalg.norm(new, axis=(-2, -1)) == pytest.approx(np.linalg.norm(x, axis=(-2, -1)), rel=1e-13)
    lengths = np.linalg.norm(new, axis=axis)
    assert lengths == pytest.approx(lengths.mean(axis=-1, keepdims=True) + 0.0 * lengths, rel=1e-12)
    assert second == pytest.approx(0.05 * (x * x).mean(axis=axis, keepdims=True))


def test_the_first_look_ahead_is_a_multiple_of_the_gradient():
    g = RNG.standard_normal((3, 2))
    ahead, momentum = muon.look_ahead(g, 0.0 * g, 0.9, 1, "average")
    assert ahead == pytest.approx((1.0 - 0.9**2) * g)
    assert momentum == pytest.approx(0.1 * g)


@pytest.mark.parametrize(
    ("decay", "after"),
    [
        ("cautious", (0.8, 1.0)),
        ("cautious strict", (1.0, 1.0)),
        ("adjusted", (0.8, 0.8)),
        ("unadjusted", (0.9, 0.9)),
    ],
)
def test_what_decays_without_an_update_and_against_one(decay, after):
    """Of a weight of 1: at an update of 0, and at one of -1e-300, whose product with the weight is negative."""
    p, x = np.ones((1, 2)), np.array([[0.0, -1e-300]])
    assert muon.applied(p, x, 0.1, 1.0, 2.0, decay)[0] == pytest.approx(after)


def test_a_ramp_longer_than_the_run_is_shortened():
    """The figures of openai/parameter-golf#1843."""
    how: dict[str, Any] = {"start": 0.85, "peak": 0.95, "final": 0.95, "cooldown": 0}
    short = [muon.momentum_at(s, ramp=500, total=300, **how) for s in range(300)]
    assert (short[0], short[-1]) == (0.85, 0.95)
    assert muon.momentum_at(299, ramp=500, total=1000, **how) == pytest.approx(0.9098, abs=5e-5)
    assert muon.momentum_at(0, ramp=500, total=1, **how) == 0.95


def test_the_momentum_of_a_run_with_a_last_phase():
    how: dict[str, Any] = {"start": 0.85, "peak": 0.97, "final": 0.90, "ramp": 4, "cooldown": 3, "total": 10}
    got = [muon.momentum_at(s, **how) for s in range(11)]
    law = [0.85, 0.88, 0.91, 0.94, 0.97, 0.97, 0.97, 0.97 - 0.07 / 3, 0.97 - 0.14 / 3, 0.90, 0.90]
    assert got == pytest.approx(law)


def test_the_decay_over_a_run():
    line, cosine = (
        [muon.weight_decay_at(s, initial=0.2, total=4, schedule=name) for s in range(6)]
        for name in ("linear", "cosine")
    )
    assert line == pytest.approx([0.2, 0.15, 0.1, 0.05, 0.0, 0.0])
    assert cosine == pytest.approx([0.2, 0.1 + 0.1 * 0.5**0.5, 0.1, 0.1 - 0.1 * 0.5**0.5, 0.0, 0.0])
