"""LayerNorm and its gradient, and RMSNorm, on well and badly conditioned rows."""

from fixtures.explicit_cases import NORMS, each
from fixtures.strategies import norm_cases
from properties.assertions import agrees
from properties.checks import checks
from properties.dtypes import to
from reference import normalisation


@checks("NORM-01", case=norm_cases(), always=each(NORMS))
def test_layer_norm_is_its_formula(subject, dtype, case):
    args = case.x, case.gamma, case.beta, case.eps
    got, form = subject.layer_norm(*to(dtype, *args)), subject.conventions.variance
    agrees("NORM-01", got, normalisation.layer_norm, *args, variance=form, dtype=dtype)


@checks("NORM-02", case=norm_cases(), always=each(NORMS))
def test_gradient_goes_through_mean_and_deviation(subject, dtype, case):
    args = case.x, case.gamma, case.eps, case.dy
    got = subject.layer_norm_backward(*to(dtype, *args))
    form = subject.conventions.variance
    agrees("NORM-02", got, normalisation.layer_norm_backward, *args, variance=form, dtype=dtype)


@checks("NORM-03", case=norm_cases(), always=each(NORMS))
def test_rms_norm_is_its_formula(subject, dtype, case):
    args = case.x, case.gamma, case.eps
    agrees("NORM-03", subject.rms_norm(*to(dtype, *args)), normalisation.rms_norm, *args, dtype=dtype)
