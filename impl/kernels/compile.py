"""How every kernel is compiled, and where the compiled code is kept.

No fastmath: LLVM may then neither fuse nor reorder floating-point operations, so the bits do not depend on the
vector width. `error_model="numpy"` lets division vectorise. Numba's cache does not notice an edit of a callee in
another file, hence a private directory named after a hash of this package's whole source.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from impl.errors import UsageError

_PACKAGE = Path(__file__).resolve().parents[1]
_KEPT_CACHES = 8


def source_hash() -> str:
    """SHA-256 over the names and contents of the package's Python files, 64 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = path.relative_to(_PACKAGE).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def private_cache() -> Path:
    """This source state's cache directory, made if needed; the oldest ones beside it are removed.

    Raises UsageError if somebody else owns it or may write to it: compiled code is loaded from there.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "honestloop" / "numba"
    cache = root / source_hash()[:16]
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = cache.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UsageError(f"{cache}: compiled kernels must belong to you alone; remove it")
    os.utime(cache)
    for stale in sorted(root.iterdir(), key=lambda path: path.stat().st_mtime)[:-_KEPT_CACHES]:
        _remove(stale)
    return cache


def _remove(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.unlink(missing_ok=True) if path.is_file() else path.rmdir()
    directory.rmdir()


numba.config.CACHE_DIR = str(private_cache())


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` into its callers: a loop over it vectorises only if no call is left."""
    compiled: Callable[..., Any] = numba.njit(error_model="numpy", nogil=True, forceinline=True)(function)
    return compiled


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` for each dtype it is called with: float32 and float64 from one source."""
    compiled: Callable[..., Any] = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    return compiled
