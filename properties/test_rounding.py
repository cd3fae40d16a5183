"""Rounding of weights to half precision and bfloat16."""

import numpy as np
import pytest

from fixtures.explicit_cases import WEIGHTS
from fixtures.strategies import weights
from properties.assertions import same_bytes
from properties.checks import checks
from reference import rounding


@checks("ROUND-01", x=weights(), always=[{"x": x} for x in WEIGHTS])
@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_weights_are_rounded_to_nearest_even(subject, dtype, form, x):
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    same_bytes("ROUND-01", subject.round_weights(x, form), rounding.round_weights(x, form), form)
