"""GELU and its gradient, and SiLU."""

import numpy as np

from fixtures.explicit_cases import ACTIVATIONS
from fixtures.strategies import activations
from properties.assertions import agrees, holds
from properties.checks import checks
from properties.dtypes import to
from reference import activation

SHAPES = [{"x": x} for x in ACTIVATIONS]


@checks("ACT-01", x=activations(), always=SHAPES)
def test_gelu_is_exact(subject, dtype, x):
    agrees(
        "ACT-01", subject.gelu(to(dtype, x)), activation.gelu, x, form=subject.conventions.gelu, dtype=dtype
    )


@checks("ACT-02", x=activations(), always=SHAPES)
def test_gradient_is_that_of_the_formula(subject, dtype, x):
    dy = x[::-1].copy()
    got = subject.gelu_backward(*to(dtype, x, dy))
    agrees("ACT-02", got, activation.gelu_backward, x, dy, form=subject.conventions.gelu, dtype=dtype)


LEFTMOST = -80.0  # exp(80) is finite in float32


@checks("ACT-03", x=activations(), always=SHAPES)
def test_silu_is_its_formula(subject, dtype, x):
    x = np.maximum(x, LEFTMOST)
    agrees("ACT-03", subject.silu(to(dtype, x)), activation.silu, x, dtype=dtype)


@checks("ACT-03")
def test_silu_goes_to_zero_on_the_left(subject, dtype):
    """For x <= -100, |x| exp(x) is below the smallest normal float32."""
    got = subject.silu(np.array([-100.0, -1e3, -1e30], dtype=dtype))
    holds(
        "ACT-03", np.all(np.abs(got) <= np.finfo(np.float32).smallest_normal), f"far to the left: {list(got)}"
    )
