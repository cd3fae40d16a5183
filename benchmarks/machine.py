"""Peak arithmetic and memory bandwidth of this machine: fused multiply-adds in registers, and copies."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

ACCUMULATORS = 16
"""Independent fused multiply-adds in flight: enough for two units with a latency of four cycles."""
VECTOR_BITS = 512
REPEATS = 7


@intrinsic
def _multiply_adds(typingctx: Any, times: Any, number: Any) -> Any:
    """`times` iterations of one fused multiply-add on each of the vector accumulators, all in registers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = ir.FloatType() if number == types.float32 else ir.DoubleType()
        lanes = VECTOR_BITS // number.bitwidth
        vector = ir.VectorType(element, lanes)
        name = f"llvm.fma.v{lanes}f{number.bitwidth}"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        splat = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(undefined, args[1], ir.IntType(32)(0))
        factor = builder.shuffle_vector(first, undefined, splat)
        before, loop, done = builder.block, builder.append_basic_block("fma"), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        count = builder.phi(ir.IntType(64))
        accumulators = [builder.phi(vector) for _ in range(ACCUMULATORS)]
        sums = [builder.call(fma, [accumulator, factor, factor]) for accumulator in accumulators]
        following = builder.add(count, ir.IntType(64)(1))
        for phi, start, value in [
            (count, ir.IntType(64)(0), following),
            *((phi, factor, value) for phi, value in zip(accumulators, sums, strict=True)),
        ]:
            phi.add_incoming(start, before)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, done)
        builder.position_at_end(done)
        total = sums[0]
        for value in sums[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, ir.IntType(32)(0))

    return number(types.int64, number), codegen


@numba.njit(nogil=True)
def _arithmetic(times: int, number: Any) -> Any:
    return _multiply_adds(times, number)


def best(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Seconds of the fastest of `repeats` calls."""
    fastest = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


def peak(dtype: str) -> float:
    """Highest FLOP/s of fused multiply-adds (2 FLOP each) in registers, on one thread."""
    times = 40_000
    call = partial(_arithmetic, times, np.dtype(dtype).type(0.5))
    call()
    return _operations(dtype, times) / best(call)


def sustained(dtype: str, threads: int, seconds: float) -> float:
    """Mean FLOP/s of this many threads together over at least these seconds.

    Measured over as long as a training step takes, it is what the step could have used at most.
    """
    times, done, number = (
        1_000_000,
        0.0,
        np.dtype(dtype).type(0.5),
    )  # so many that starting a thread does not count
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_arithmetic, [1] * threads, [number] * threads))
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds or not done:
            list(pool.map(_arithmetic, [times] * threads, [number] * threads))
            done += _operations(dtype, times) * threads
    return done / passed


def _operations(dtype: str, times: int) -> float:
    return 2.0 * ACCUMULATORS * (VECTOR_BITS // (8 * np.dtype(dtype).itemsize)) * times


@cache
def _buffers(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(size, np.uint8), np.ones(size, np.uint8)


def copy_seconds(traffic: int) -> float:
    """Seconds of a copy that reads and writes `traffic` bytes in total, in the cache level where they fit."""
    source, target = _buffers(max(traffic // 2, 64))
    times = max(1, 2**22 // traffic)

    def copy() -> None:
        for _ in range(times):
            np.copyto(target, source)

    return best(copy) / times
