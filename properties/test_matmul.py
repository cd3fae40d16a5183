"""Matrix products, of shapes just below and above tile sizes and of columns that cancel."""

import operator

from fixtures.explicit_cases import MATRICES, each
from fixtures.strategies import matrix_cases
from properties.assertions import agrees
from properties.checks import checks
from properties.dtypes import to


@checks("MATMUL-01", case=matrix_cases(), always=each(MATRICES))
def test_entries_are_dot_products(subject, dtype, case):
    got = subject.matmul(*to(dtype, case.a, case.b))
    agrees("MATMUL-01", got, operator.matmul, case.a, case.b, dtype=dtype)
