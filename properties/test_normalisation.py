"""LayerNorm and its gradient, on rows of every conditioning."""

from hypothesis import given

from fixtures.strategies import norm_cases
from properties.assertions import agrees
from properties.dtypes import in_both_dtypes, to
from reference import normalisation


@in_both_dtypes
@given(case=norm_cases())
def test_layer_norm_is_its_formula(subject, dtype, case):
    args = case.x, case.gamma, case.beta, case.eps
    agrees("NORM-01", subject.layer_norm(*to(dtype, *args)), normalisation.layer_norm, *args, dtype=dtype)


@in_both_dtypes
@given(case=norm_cases())
def test_gradient_goes_through_mean_and_deviation(subject, dtype, case):
    args = case.x, case.gamma, case.eps, case.dy
    got = subject.layer_norm_backward(*to(dtype, *args))
    agrees("NORM-02", got, normalisation.layer_norm_backward, *args, dtype=dtype)
