"""How every kernel is compiled, and where the compiled code is kept.

No fastmath: LLVM may then neither fuse nor reorder floating-point operations, so the bits do not depend on the
vector width. `error_model="numpy"` lets division vectorise. Numba's cache does not notice an edit of a callee in
another file, hence a private directory named after a hash of the kernels' source.
"""

import atexit
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba.extending import intrinsic, overload

_KERNELS = Path(__file__).resolve().parent
_DAYS_KEPT = 7


def source_hash() -> str:
    """SHA-256 over the names and contents of this folder's files, 64 hex digits; kernels call nothing outside it."""
    digest = hashlib.sha256()
    for path in sorted(_KERNELS.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def private_cache() -> Path:
    """This source state's cache directory, made if needed; those that nobody used for a week are removed.

    Compiled code is loaded from there, so it must be this user's and nobody else's to write. Without a home that can
    be written to, the system's temporary directory serves; failing that, a new directory for this process alone.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for root in (home / "honestloop" / "numba", Path(tempfile.gettempdir()) / f"honestloop-{os.getuid()}"):
        try:
            return _prepared(root, root / source_hash()[:16])
        except OSError:
            continue
    alone = tempfile.mkdtemp(prefix="honestloop-")
    atexit.register(shutil.rmtree, alone, ignore_errors=True)
    return Path(alone)


def _prepared(root: Path, cache: Path) -> Path:
    """The cache, made and tidied. OSError if it cannot be written to, or if others can."""
    for folder in (root, cache):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise PermissionError(f"{folder} is not this user's alone")
    os.utime(cache)
    for other in root.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process tidies, too
            if other.stat().st_mtime < time.time() - _DAYS_KEPT * 86400:
                shutil.rmtree(other, ignore_errors=True)
    return cache


# No kernel may call BLAS: its bits depend on the CPU. Numba then need not look for SciPy's either, half a second.
sys.modules["scipy.linalg.cython_blas"] = None  # type: ignore[assignment]
numba.config.CACHE_DIR = str(private_cache())
# LLVM keeps to half of a 512-bit register unless it is told otherwise. The bits are the same, the time is not.
_host = llvmlite.binding.get_host_cpu_features()
_told = os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES") is not None
if _host.get("avx512f") and not _told:
    numba.config.CPU_FEATURES = _host.flatten() + ",-prefer-256-bit"


_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True}


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` into its callers: a loop over it vectorises only if no call is left."""
    compiled: Callable[..., Any] = numba.njit(error_model="numpy", nogil=True, forceinline=True)(function)
    return compiled


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Merge `function` into its callers before they are compiled.

    For what only calls kernels: numba compiles all that a function calls anew with it, and so at every level.
    """
    compiled: Callable[..., Any] = numba.njit(**_OPTIONS, inline="always")(function)
    return compiled


def intrinsic_or(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """An intrinsic, or its twin in Python, with the same bits, for the interpreter (NUMBA_DISABLE_JIT=1)."""

    def choose(template: Callable[..., Any]) -> Any:
        return twin if numba.config.DISABLE_JIT else intrinsic(template)

    return choose


def interpreted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel as Python. For those that return a NamedTuple: numba would hand it over by way of pickle."""
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
    compiled: Callable[..., Any] = numba.njit(**_OPTIONS)(function)
    return compiled


def strided(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel of matrices a, b, c and a bool that is compiled once a dtype, for matrices of all layouts."""
    signatures = []
    for dtype in (numba.float32, numba.float64):
        read, written = (numba.types.Array(dtype, 2, "A", readonly=readonly) for readonly in (True, False))
        signatures.append(numba.void(read, read, written, numba.boolean))
    compiled: Callable[..., Any] = numba.njit(signatures, **_OPTIONS)(function)
    return compiled
