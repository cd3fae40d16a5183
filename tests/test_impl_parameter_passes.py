"""Passes over all parameters in chunks: the bits of one pass over the whole, with any number of threads."""

import numpy as np
import pytest

from impl.kernels import parameter_passes
from impl.kernels.adamw import Scalars, adamw, running_power
from impl.kernels.elementwise import scale
from impl.kernels.reduce import sum_squares
from impl.kernels.runtime.thread_pool import PARALLEL_THRESHOLD, ThreadPool
from impl.optim.optimizer import clip_factor

SCALARS = Scalars(0.999, 1e-3, 0.9, 0.1, 0.95, 0.05, 1.1, 1.3, 1e-8, 1.0)
SIZES = [1, parameter_passes.CHUNK, 3 * parameter_passes.CHUNK + 5, PARALLEL_THRESHOLD + 7]


def drawn(dtype, *shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_gradient_is_the_sum_of_its_accumulators(threads, size, dtype):
    accumulators, head_accumulators = (
        drawn(dtype, 2, size),
        drawn(dtype, 2, min(size, parameter_passes.CHUNK + 3)),
    )
    wanted = accumulators[0] + accumulators[1]
    for accumulator in head_accumulators:
        wanted[: accumulator.size] += accumulator
    out, squares = np.zeros(size, dtype), np.zeros(parameter_passes.chunk_count(size))
    arrays = accumulators, head_accumulators, out, squares
    ThreadPool(threads).run_chunks(parameter_passes.finish_gradients, size, *arrays)
    assert np.array_equal(out, wanted)
    assert not accumulators.any()
    assert not head_accumulators.any()
    assert parameter_passes.total_squares(squares) == sum_squares(wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_update_is_one_of_the_whole(threads, size, dtype):
    p, g, m, v = drawn(dtype, 4, size)
    arrays = p, g, m, v**2, np.arange(size) % 3 == 0
    whole = [x.copy() for x in arrays]
    adamw(*whole, SCALARS)
    ThreadPool(threads).run_chunks(parameter_passes.update, size, *arrays, SCALARS)
    assert all(np.array_equal(x, y) for x, y in zip(arrays, whole, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", [0.5, 1.0, 1.7, float("nan")])
def test_an_update_clips_as_if_the_gradient_had_been_scaled(norm, dtype):
    factor = clip_factor(norm, 1.0)
    assert factor == (1.0 / 1.7 if norm > 1.0 else 1.0)
    p, g, m, v = drawn(dtype, 4, 100)
    clipped, given = g.copy(), g.copy()
    if factor < 1.0:
        scale(clipped, g.dtype.type(factor))
    found = []
    for gradient, clip in ((clipped, 1.0), (g, factor)):
        state = p.copy(), gradient, m.copy(), v**2, np.ones(100, bool)
        adamw(*state, SCALARS._replace(clip_factor=clip))
        found.append([x.tobytes() for x in (state[0], state[2], state[3])])
    assert found[0] == found[1]
    assert np.array_equal(g, given)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 1.0 - 2.0**-53, 1.0])
def test_a_power_is_the_product_that_the_optimizer_keeps(beta):
    product, steps = 1.0, 0
    for t in (0, 1, 2, 100, 3000):
        while steps < t:
            product, steps = product * beta, steps + 1
        assert running_power(beta, t).hex() == product.hex()
