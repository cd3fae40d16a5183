"""Rounding of weights to half precision and bfloat16."""

import numpy as np
import pytest
from hypothesis import given

from fixtures.strategies import weights
from properties.assertions import same_bytes
from properties.dtypes import in_both_dtypes
from reference import rounding


@pytest.mark.parametrize("form", ["float16", "bfloat16"])
@in_both_dtypes
@given(x=weights())
def test_weights_are_rounded_to_nearest_even(subject, dtype, form, x):
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    same_bytes("ROUND-01", subject.round_weights(x, form), rounding.round_weights(x, form), form)
