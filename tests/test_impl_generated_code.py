"""What LLVM makes of the kernels: nothing fused unasked, no libm, no reordering, vectors in the hot loops."""

import os
import re
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba.core.registry import cpu_target

from impl.config import ModelConfig
from impl.data.iterator import make_batch
from impl.kernels import (
    activation,
    adamw,
    attention,
    dropout,
    elementwise,
    gemm,
    layer_norm,
    loss,
    objective,
    reduce,
    rotary,
    transpose,
)
from impl.kernels.attention import QUERY_BLOCK, query_blocks
from impl.kernels.batch_worker import run_worker
from impl.kernels.runtime.compile import uncached
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters

LIBM = r"exp|exp2|expm1|log|log2|log1p|pow|sin|cos|tan|tanh|erf|erfc|fma"
N, D = 32, 64


def arguments(dtype):
    """kernel -> arguments at sizes of the model."""

    def zeros(*shape):
        return np.zeros(shape, dtype)

    number = np.dtype(dtype).type
    tokens, seen = np.zeros(N, np.int64), np.ones(N, bool)
    keep, rows = np.ones((N, D), bool), lambda: zeros(N, D)
    weights, starts, positions = zeros(1, query_blocks(N), N, 4 * QUERY_BLOCK), np.array([0, N]), np.arange(N)
    scalars = adamw.Scalars(*[0.5] * 10)
    return {
        gemm.gemm: (rows(), zeros(D, D), rows(), False),
        gemm._gemm_packed: (rows(), zeros(D, D), rows(), N, D, False),
        activation.gelu: (rows(), rows(), rows()),
        layer_norm.layer_norm: (rows(), zeros(D), zeros(D), number(1e-5), rows(), rows(), zeros(N)),
        layer_norm.layer_norm_backward: (rows(), rows(), zeros(N), zeros(D), rows()),
        layer_norm.layer_norm_parameters_backward: (rows(), rows(), zeros(D), zeros(D)),
        loss.cross_entropy: (rows(), tokens, seen, number(1.0), np.zeros(N), rows()),
        attention.attention: (rows(), rows(), rows(), starts, seen, number(0.25), 0, rows(), weights),
        attention._hide_far_keys: (rows(), 3, QUERY_BLOCK),
        objective.soft_cap: (rows(), 15.0, 1.0, rows()),
        objective.soft_cap_backward: (rows(), 15.0, 1.0, rows()),
        objective.add_penalties: (rows(), tokens, seen, number(1.0), 0.1, 1e-4, np.zeros(N), rows()),
        attention._softmax: (rows(), number(0.25), seen, QUERY_BLOCK, zeros(D), zeros(D)),
        attention._softmax_backward: (rows(), number(0.25), rows(), zeros(D)),
        dropout._mask_from_counter: (tokens.astype(np.uint32), 0, *[np.uint32(1)] * 4, keep.reshape(-1)),
        rotary.rotate: (rows(), zeros(N, D), zeros(N, D), D // 8, positions),
        dropout.apply_mask: (rows(), keep, number(1.1), rows()),
        dropout.apply_mask_in_place: (rows(), keep, number(1.1)),
        adamw.adamw: (zeros(D), zeros(D), zeros(D), zeros(D), np.ones(D, bool), scalars),
        reduce.sum_squares: (zeros(D),),
        elementwise.add: (rows(), rows(), rows()),
        elementwise.add_in_place: (rows(), rows()),
        elementwise.multiply_in_place: (rows(), rows()),
        elementwise.scatter_add_rows: (rows(), tokens, rows()),
        elementwise.add_and_clear: (zeros(D), zeros(D)),
        elementwise.reduce_and_clear: (zeros(D), zeros(D), zeros(D)),
        transpose.transpose: (rows(), zeros(D, N)),
    }


WITHOUT_VECTORS = {attention.attention}  # its loops are in the kernels it calls
OWN = {"float32": "float", "float64": "double"}
VECTORS_OF = {reduce.sum_squares: "double", dropout._mask_from_counter: "i64"}
CASES = [
    pytest.param(kernel, values, dtype, id=f"{kernel.__name__}-{dtype}")
    for dtype in ("float32", "float64")
    for kernel, values in arguments(dtype).items()
]


def intermediate(kernel, values):
    """Optimised LLVM IR, compiled without the cache, which keeps none."""
    compiled = uncached(kernel.py_func)
    compiled(*values)
    return next(iter(compiled.inspect_llvm().values()))


def problems(code):
    """What the IR has that changes bits from machine to machine."""
    found = re.findall(rf"\b(?:call|declare)\b[^@\n]*@(?:llvm\.)?(?:{LIBM})f?\(", code)
    found += re.findall(
        r"llvm\.fmuladd|\bf(?:add|mul|sub|div)\s+(?:fast|reassoc|contract|nnan|ninf|nsz|arcp|afn)\b", code
    )
    found += re.findall(r"@numba_(?:xx|ez)\w+", code)  # numba's way to BLAS, whose bits depend on the CPU
    return found + re.findall(rf"@llvm\.(?!fma)(?:{LIBM})\.\w+", code)


@pytest.mark.parametrize(("kernel", "values", "dtype"), CASES)
def test_the_code_of_a_kernel(kernel, values, dtype):
    code = intermediate(kernel, values)
    assert problems(code) == []
    if kernel not in WITHOUT_VECTORS:
        assert re.search(rf"<\d+ x {VECTORS_OF.get(kernel, OWN[dtype])}>", code), "no vectors"
    assert "llvm.masked.gather" not in code, "a vector is read number by number"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_code_of_a_whole_pass(dtype):
    """All that `run_worker` has merged into it, compiled for a model."""
    config = ModelConfig(d_model=8, n_heads=2, n_layers=1, d_ff=12, vocab_size=7, context=6)
    MiniGPT(config, dtype, initial_parameters(0, config)).nll(make_batch([[1, 5, 2]]))
    compiled: Any = run_worker
    wanted = [s for s in compiled.signatures if f"array({dtype}, 1d, C)" in str(s)]
    again = uncached(compiled.py_func)
    again.compile(wanted[0])
    assert problems(next(iter(again.inspect_llvm().values()))) == []


def test_whole_registers_are_used():
    """Of 512 bits, where the processor has them and nobody says otherwise: LLVM on its own takes halves of them."""
    told = os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES") is not None
    has_them = bool(llvmlite.binding.get_host_cpu_features().get("avx512f")) and not told
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    assert ("-prefer-256-bit" in features) == has_them


def test_a_kernel_that_calls_blas_is_seen():
    @numba.njit
    def faulty(x):
        return np.dot(x, x)

    faulty(np.ones((2, 2)))
    assert problems(next(iter(faulty.inspect_llvm().values())))


@pytest.mark.parametrize("fault", ["fastmath", "libm"])
def test_a_kernel_with_the_fault_is_seen(fault):
    @numba.njit(fastmath=fault == "fastmath")
    def faulty(x):
        total = 0.0
        for i in range(x.size):
            total += np.exp(x[i]) if fault == "libm" else x[i] * x[i]
        return total

    faulty(np.ones(9))
    assert problems(next(iter(faulty.inspect_llvm().values())))
