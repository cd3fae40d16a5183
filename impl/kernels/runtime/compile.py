"""The decorators that compile kernels; every kernel is compiled with the options given here.

fastmath is off: LLVM then neither fuses nor reorders floating-point operations, so the bits do not depend on the vector
width. `error_model="numpy"` lets divisions vectorise.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba.core import sigutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

from impl.kernels.runtime.cache import UNOPTIMISED, LazyLibrary, cache_directory, cached

# Numba looks for SciPy's BLAS, which takes half a second. No kernel may call BLAS, whose bits depend on the CPU; so
# numba is told that there is none.
if "scipy.linalg.cython_blas" not in sys.modules:
    sys.modules["scipy.linalg.cython_blas"] = None  # type: ignore[assignment]
    import numba.np.arraymath  # imports SciPy's BLAS

    del sys.modules["scipy.linalg.cython_blas"]
numba.config.CACHE_DIR = str(cache_directory())
# By default LLVM uses half of a 512-bit register. Whole registers give the same bits, faster.
_host = llvmlite.binding.get_host_cpu_features()
_target_is_set = os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES") is not None
if _host.get("avx512f") and not _target_is_set:
    numba.config.CPU_FEATURES = _host.flatten() + ",-prefer-256-bit"
# `codegen()` reads the settings above when it is first called, so this line comes after them.
cpu_target.target_context.codegen()._library_class = LazyLibrary


def uncached(function: Callable[..., Any], **options: Any) -> Any:
    """Compile `function` with the options of every kernel, but do not store the result on disk.

    Kernels do no reference counting (`_nrt=False`), and allocate with runtime/memory.py alone. Code with `_nrt=True`
    (for example numba's own library functions) must not receive an array from a kernel: it would decref an array that
    was never increfed.
    """
    return numba.njit(error_model="numpy", nogil=True, _nrt=False, no_cfunc_wrapper=True, **options)(function)


def _cached(dispatcher: Any) -> Any:
    return dispatcher if numba.config.DISABLE_JIT else cached(dispatcher)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` for each dtype it is called with: float32 and float64 from one source."""
    compiled: Callable[..., Any] = _cached(uncached(function))
    return compiled


def llvm_inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """LLVM inlining of `function` into its callers: a loop that calls it vectorises only if no call is left in it."""
    compiled: Callable[..., Any] = uncached(function, forceinline=True)
    return compiled


def numba_inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Numba IR inlining: copy the IR of `function` into its callers, to save compile time.

    For functions that only call kernels: otherwise numba would compile their callees anew at every level of the calls.
    """
    compiled: Callable[..., Any] = _cached(uncached(function, inline="always"))
    return compiled


def strided_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel of matrices a, b, c and a bool; compiled once for each dtype it is called with, for any strides."""
    compiled: Any = kernel(function)
    if numba.config.DISABLE_JIT:
        return compiled
    compile_signature = compiled.compile

    def compile_for_any_strides(signature: Any) -> Any:
        arguments, _ = sigutils.normalize_signature(signature)
        dtype = arguments[2].dtype
        read, written = (numba.types.Array(dtype, 2, "A", readonly=readonly) for readonly in (True, False))
        return compile_signature(numba.void(read, read, written, numba.boolean))

    compiled.compile = compile_for_any_strides
    return compiled


def orchestrating_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose time is that of the kernels it calls: its own code is not optimised, which halves its compiling.

    The code of its callees is linked in as they were optimised, so what takes the time is as fast as ever.
    """
    UNOPTIMISED.add(function.__name__)
    return kernel(function)


def intrinsic_or_python(python: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """An intrinsic (LLVM IR by hand), and a Python function with the same bits for NUMBA_DISABLE_JIT=1."""

    def choose(template: Callable[..., Any]) -> Any:
        return python if numba.config.DISABLE_JIT else intrinsic(template)

    return choose


def by_precision(single: Callable[..., Any], double: Callable[..., Any]) -> Callable[..., Any]:
    """One name for a scalar function that is written for float32 and for float64; the argument's type chooses."""

    def choose(x: Any) -> Any:
        return single(x) if isinstance(x, np.float32) else double(x)

    def choose_compiled(x):  # numba wants both functions to have the same signature
        return (lambda x: single(x)) if x == numba.float32 else (lambda x: double(x))

    overload(choose, inline="always")(choose_compiled)
    return choose


def by_precision_and_word(single: Callable[..., Any], double: Callable[..., Any]) -> Callable[..., Any]:
    """`by_precision` of a function that takes a second argument, of one type."""

    def choose(x: Any, word: Any) -> Any:
        return single(x, word) if isinstance(x, np.float32) else double(x, word)

    def choose_compiled(x, word):
        if x == numba.float32:
            return lambda x, word: single(x, word)
        return lambda x, word: double(x, word)

    overload(choose, inline="always")(choose_compiled)
    return choose
