"""The kernels' own exp, log, sin, cos and normal distribution against mpmath at 40 digits."""

import math

import mpmath
import numpy as np
import pytest

from impl.kernels import math_functions

_RANDOM = np.random.default_rng(18)
_EVERYWHERE = _RANDOM.uniform(-700.0, 700.0, 1500)
_NEAR_ZERO = _RANDOM.uniform(-1.0, 1.0, 1500)


def _worst_ulps(function, exact, points):
    """Largest error over `points`, in units of the last place of the exact value."""
    worst = mpmath.mpf(0)
    with mpmath.workdps(40):
        for x in map(float, points):
            reference = exact(mpmath.mpf(x))
            error = abs(mpmath.mpf(function(x)) - reference)
            worst = max(worst, error / mpmath.mpf(math.ulp(float(reference))))
    return float(worst)


@pytest.mark.parametrize(
    ("name", "function", "exact", "points", "limit"),
    [
        ("exp", math_functions.exp, mpmath.exp, [*_EVERYWHERE, *_NEAR_ZERO], 1.0),
        ("log", math_functions.log, mpmath.log, [*np.exp(_EVERYWHERE), *np.exp(_NEAR_ZERO)], 1.0),
        ("sin", lambda x: math_functions.sin_cos(x)[0], mpmath.sin, [*_EVERYWHERE, *_NEAR_ZERO], 2.0),
        ("cos", lambda x: math_functions.sin_cos(x)[1], mpmath.cos, [*_EVERYWHERE, *_NEAR_ZERO], 2.0),
        (
            "Phi",
            lambda x: math_functions.normal_cdf_pdf(x)[0],
            mpmath.ncdf,
            _RANDOM.uniform(-30, 8, 3000),
            8.0,
        ),
        (
            "phi",
            lambda x: math_functions.normal_cdf_pdf(x)[1],
            mpmath.npdf,
            _RANDOM.uniform(-30, 30, 3000),
            3.0,
        ),
    ],
)
def test_error_in_ulps(name, function, exact, points, limit):
    assert _worst_ulps(function, exact, points) <= limit, name


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0.0, 1.0), (-math.inf, 0.0), (math.inf, math.inf), (-745.2, 0.0), (-745.1, 5e-324), (710.0, math.inf)],
)
def test_exp_at_the_ends_of_its_range(x, expected):
    assert math_functions.exp(x) == expected


def test_nan_stays_nan():
    assert math.isnan(math_functions.exp(math.nan))
    assert all(map(math.isnan, math_functions.normal_cdf_pdf(math.nan)))


@pytest.mark.parametrize(
    ("x", "cdf"), [(0.0, 0.5), (math.inf, 1.0), (-math.inf, 0.0), (300.0, 1.0), (-300.0, 0.0)]
)
def test_normal_distribution_at_the_ends_of_its_range(x, cdf):
    assert math_functions.normal_cdf_pdf(x)[0] == cdf


@pytest.mark.parametrize(
    ("name", "function", "exact", "points", "limit"),
    [
        ("exp", math_functions.exp, mpmath.exp, _RANDOM.uniform(-87.3, 88.7, 3000), 1.0),
        (
            "Phi",
            lambda x: math_functions.normal_cdf_pdf(x)[0],
            mpmath.ncdf,
            _RANDOM.uniform(-12, 8, 3000),
            5.0,
        ),
        (
            "phi",
            lambda x: math_functions.normal_cdf_pdf(x)[1],
            mpmath.npdf,
            _RANDOM.uniform(-12, 12, 3000),
            3.0,
        ),
    ],
)
def test_error_in_ulps_of_float32(name, function, exact, points, limit):
    worst = 0.0
    with mpmath.workdps(40):
        for x in points.astype(np.float32):
            got, reference = function(x), exact(mpmath.mpf(float(x)))
            assert type(got) is np.float32 or isinstance(got, float)
            worst = max(
                worst, float(abs(got - reference) / mpmath.mpf(float(np.spacing(np.float32(reference)))))
            )
    assert worst <= limit, name


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0.0, 1.0), (-math.inf, 0.0), (-87.4, 0.0), (88.73, math.inf), (math.inf, math.inf), (-1e30, 0.0)],
)
def test_exp_of_float32_at_the_ends_of_its_range(x, expected):
    assert math_functions.exp(np.float32(x)) == np.float32(expected)
    assert np.isnan(math_functions.exp(np.float32(np.nan)))


@pytest.mark.parametrize(
    ("degree", "function", "low", "high", "coefficients"),
    [
        (9, lambda y: _scaled_erfc(2 * (1 + y) / (1 - y)), -1, mpmath.mpf(8) / 12, math_functions._ERFCX_32),
        (
            4,
            lambda r: (mpmath.exp(r) - 1 - r) / r**2 if abs(r) > 1e-20 else mpmath.mpf(0.5),
            -mpmath.log(2) / 2,
            mpmath.log(2) / 2,
            math_functions._EXP_32,
        ),
    ],
)
def test_the_polynomials_of_float32_are_interpolants_at_chebyshev_nodes(
    degree, function, low, high, coefficients
):
    with mpmath.workdps(60):
        middle, half = (mpmath.mpf(high) + low) / 2, (mpmath.mpf(high) - low) / 2
        nodes = [mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * degree + 2)) for k in range(degree + 1)]
        points = [middle + half * node for node in nodes]
        vandermonde = mpmath.matrix([[x**j for j in range(degree + 1)] for x in points])
        solved = mpmath.lu_solve(vandermonde, mpmath.matrix([function(x) for x in points]))
    assert tuple(np.float32(float(c)) for c in solved) == coefficients


def test_the_erfc_polynomial_is_the_chebyshev_interpolant_it_says_it_is():
    """Recomputes the 24 coefficients at 60 digits."""
    degree, nodes = 23, 64
    with mpmath.workdps(60):
        points = [mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * nodes)) for k in range(nodes)]
        values = [_scaled_erfc(mpmath.mpf("3.75") * (1 + y) / (1 - y)) for y in points]
        chebyshev = [
            2 * sum(v * mpmath.cos(j * mpmath.acos(y)) for y, v in zip(points, values, strict=True)) / nodes
            for j in range(degree + 1)
        ]
        chebyshev[0] /= 2
        powers = _chebyshev_to_powers(chebyshev)
    assert tuple(float(c) for c in powers) == math_functions._ERFCX


def _scaled_erfc(z):
    return (1 + 2 * z) * mpmath.exp(z * z) * mpmath.erfc(z)


def _chebyshev_to_powers(coefficients):
    """Coefficients of the same polynomial in 1, y, y^2, ...; T_(j+1) = 2 y T_j - T_(j-1)."""
    previous, current = [mpmath.mpf(1)], [mpmath.mpf(0), mpmath.mpf(1)]
    total = [mpmath.mpf(0)] * len(coefficients)
    for coefficient in coefficients:
        for i, term in enumerate(previous):
            total[i] += coefficient * term
        following = [mpmath.mpf(0), *(2 * term for term in current)]
        for i, term in enumerate(previous):
            following[i] -= term
        previous, current = current, following
    return total
