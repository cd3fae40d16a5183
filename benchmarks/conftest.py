"""Inputs of the default model's sizes, from a fixed seed."""

from typing import Any

import numpy as np
import pytest

from honestloop import protocol
from reference.model import DEFAULT_CONFIG, parameter_shapes

BATCH, LENGTH = 32, 28  # a batch of the verb corpus, padded to its longest sequence


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(18)


@pytest.fixture
def timed(benchmark):
    """Time a call, after one call that is not timed because it may compile."""

    def measure(function: Any, *args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)
        benchmark(function, *args, **kwargs)

    return measure


@pytest.fixture
def parameters(random: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
    """Random parameters of the default model."""
    shapes = parameter_shapes(DEFAULT_CONFIG)
    return {name: (0.02 * random.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}


@pytest.fixture
def batch(random: np.random.Generator, subject: protocol.Subject) -> tuple[np.ndarray, ...]:
    """(input, target, loss_mask, key_mask) of rows of unequal length."""
    lengths = [LENGTH + 1, *random.integers(10, LENGTH + 1, BATCH - 1)]
    return protocol.fields(subject.make_batch([random.integers(5, 64, n).tolist() for n in lengths]))
