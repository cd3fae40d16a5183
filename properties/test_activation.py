"""The exact GELU and its gradient."""

from hypothesis import given

from fixtures.strategies import activations
from properties.assertions import agrees
from properties.dtypes import in_both_dtypes, to
from reference import activation


@in_both_dtypes
@given(x=activations())
def test_gelu_is_exact(subject, dtype, x):
    agrees("ACT-01", subject.gelu(to(dtype, x)), activation.gelu, x, dtype=dtype)


@in_both_dtypes
@given(x=activations())
def test_gradient_is_that_of_the_formula(subject, dtype, x):
    dy = x[::-1].copy()
    got = subject.gelu_backward(*to(dtype, x, dy))
    agrees("ACT-02", got, activation.gelu_backward, x, dy, dtype=dtype)
