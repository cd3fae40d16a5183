"""How every kernel is compiled.

No fastmath: LLVM may then neither fuse nor reorder floating-point operations, so the bits do not depend on the
vector width. `error_model="numpy"` lets division vectorise.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

from impl.kernels.runtime.cache import Library, kept, private_cache

# No kernel may call BLAS: its bits depend on the CPU. Numba then need not look for SciPy's either, half a second.
if "scipy.linalg.cython_blas" not in sys.modules:
    sys.modules["scipy.linalg.cython_blas"] = None  # type: ignore[assignment]
    import numba.np.arraymath  # which looks

    del sys.modules["scipy.linalg.cython_blas"]
numba.config.CACHE_DIR = str(private_cache())
# LLVM keeps to half of a 512-bit register unless it is told otherwise. The bits are the same, the time is not.
_host = llvmlite.binding.get_host_cpu_features()
_told = os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES") is not None
if _host.get("avx512f") and not _told:
    numba.config.CPU_FEATURES = _host.flatten() + ",-prefer-256-bit"
cpu_target.target_context.codegen()._library_class = (
    Library  # with the settings from above: this makes it read them
)


def fresh(function: Callable[..., Any], **options: Any) -> Any:
    """`function` compiled as every kernel is, but kept nowhere.

    Numba does not count references: kernels make no arrays but those of kernels/memory.py. Nor does it in what they
    call, unless that says `_nrt=True`; it must then call no kernel that returns an array, or it gives back a reference
    that it never got.
    """
    return numba.njit(error_model="numpy", nogil=True, _nrt=False, no_cfunc_wrapper=True, **options)(function)


def _kept(compiled: Any) -> Any:
    return compiled if numba.config.DISABLE_JIT else kept(compiled)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` into its callers: a loop over it vectorises only if no call is left."""
    compiled: Callable[..., Any] = fresh(function, forceinline=True)
    return compiled


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Merge `function` into its callers before they are compiled.

    For what only calls kernels: numba compiles all that a function calls anew with it, and so at every level.
    """
    compiled: Callable[..., Any] = _kept(fresh(function, inline="always"))
    return compiled


def intrinsic_or(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """An intrinsic, or its twin in Python, with the same bits, for the interpreter (NUMBA_DISABLE_JIT=1)."""

    def choose(template: Callable[..., Any]) -> Any:
        return twin if numba.config.DISABLE_JIT else intrinsic(template)

    return choose


def interpreted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel as Python. For those that return views: to Python, numba would hand over what they are views of."""
    plain: Callable[..., Any] = getattr(function, "py_func", function)
    return plain


def by_precision(single: Callable[..., Any], double: Callable[..., Any]) -> Callable[..., Any]:
    """One name for a function of a scalar that is written for float32 and for float64; the argument's type chooses."""

    def chosen(x: Any) -> Any:
        return single(x) if isinstance(x, np.float32) else double(x)

    def compiled(x):  # numba wants the signatures of both to be the same
        return (lambda x: single(x)) if x == numba.float32 else (lambda x: double(x))

    overload(chosen, inline="always")(compiled)
    return chosen


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` for each dtype it is called with: float32 and float64 from one source."""
    compiled: Callable[..., Any] = _kept(fresh(function))
    return compiled


def strided(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel of matrices a, b, c and a bool that is compiled once a dtype, for matrices of all layouts."""
    compiled: Any = kernel(function)
    if not numba.config.DISABLE_JIT:
        for dtype in (numba.float32, numba.float64):
            read, written = (
                numba.types.Array(dtype, 2, "A", readonly=readonly) for readonly in (True, False)
            )
            compiled.compile(numba.void(read, read, written, numba.boolean))
        compiled.disable_compile()
    return compiled
