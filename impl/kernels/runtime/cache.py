"""The on-disk cache of compiled kernels: a private directory, named after a hash of the kernels' source.

Numba's own cache does not notice an edit of a callee in another file; a new directory for every state of the source
does. On a cache miss, one process compiles the kernel; the others that miss it wait and load the result.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

import llvmlite.binding
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary

_KERNELS = Path(__file__).resolve().parents[1]
_MAX_AGE_DAYS = 7
_LOCK_TIMEOUT = 120.0  # seconds; the largest kernel compiles in a fifth of it


def source_hash() -> str:
    """SHA-256 over the names and contents of the kernels' files, 64 hex digits; kernels call nothing outside them."""
    digest = hashlib.sha256()
    for path in sorted(_KERNELS.rglob("*.py")):
        digest.update(path.relative_to(_KERNELS).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def cache_directory() -> Path:
    """The directory for this state of the source, created if needed; those unused for a week are removed.

    Compiled code is loaded from it, so only this user may be able to write there. If the home directory is not
    writable, the system's temporary directory is used; failing that, a new directory for this process alone.
    """
    roots = [Path(tempfile.gettempdir()) / f"honestloop-{os.getuid()}"]
    with contextlib.suppress(RuntimeError):  # there is no home
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        roots.insert(0, home / "honestloop" / "numba")
    for root in roots:
        try:
            return _prepare(root, root / source_hash()[:16])
        except OSError:
            continue
    process_only = tempfile.mkdtemp(prefix="honestloop-")
    atexit.register(shutil.rmtree, process_only, ignore_errors=True)
    return Path(process_only)


def _prepare(root: Path, cache: Path) -> Path:
    """Create `cache` in `root`, remove old ones. OSError if it is not writable, or if other users can write to it."""
    for folder in (root, cache):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise PermissionError(f"other users can write to {folder}")
    os.utime(cache)
    for other in root.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process may have removed it
            if other.stat().st_mtime < time.time() - _MAX_AGE_DAYS * 86400:
                shutil.rmtree(other, ignore_errors=True)
    return cache


UNOPTIMISED: set[str] = set()
"""Names of kernels whose own code LLVM does not optimise."""


class Compiled:
    """How many kernels this process has compiled, which were not in the cache."""

    done = 0


COMPILED = Compiled()


class LazyLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Numba's compiled code of one function; if it comes from the cache, its LLVM bitcode is parsed only when needed.

    Running the function needs only its object code; the bitcode is needed only when a new caller is linked against it.
    """

    _bitcode: bytes | None = None

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> Any:
        name, _, (object_code, bitcode) = state
        library = codegen.create_library(name)
        library.enable_object_caching()
        library._set_compiled_object(object_code)
        library._bitcode = bitcode
        library._finalize_final_module()
        return library

    def _optimize_final_module(self) -> None:
        """Numba runs its cheap passes first, to remove reference counts; no kernel has any."""
        unoptimised = {"opt": 0, "loop_vectorize": False, "slp_vectorize": False}
        passes, builder = self._codegen._module_pass_manager(
            **(unoptimised if self._final_module.name in UNOPTIMISED else {})
        )
        passes.run(self._final_module, builder)

    def _get_module_for_linking(self) -> Any:
        if self._bitcode is not None:
            self._shared_module = llvmlite.binding.parse_bitcode(self._bitcode)
            self._codegen._engine._load_defined_symbols(self._shared_module)
            self._bitcode = None
        return super()._get_module_for_linking()

    def get_pointer_to_function(self, name: str) -> Any:
        if self._bitcode is None:
            return super().get_pointer_to_function(name)
        return self._codegen._engine.get_function_address(name)


class SharedCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function, with a lock file: on a cache miss, one process compiles and the others wait."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._thread = threading.local()  # a thread releases only the lock that it acquired itself

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code; or None, and this thread then holds the lock until it calls `release_lock`."""
        found = self._load_compiled(sig, target_context)
        if found is None and getattr(self._thread, "lock", None) is None:
            self._thread.lock = _acquire_lock(Path(self.cache_path) / f"{self._impl.filename_base}.lock")
            found = self._load_compiled(sig, target_context)
        return found

    def _load_compiled(self, sig: Any, target_context: Any) -> Any:
        """As in numba, but without `target_context.refresh()` first, which takes longer than to load the code."""
        return self._load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Into the cache, for all processes."""
        super().save_overload(sig, data)
        COMPILED.done += 1

    def release_lock(self) -> None:
        lock, self._thread.lock = getattr(self._thread, "lock", None), None
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough if a forked process has the file open
            lock.close()


def is_cached(kernel: Any, types: tuple[Any, ...]) -> bool:
    """Whether the code of a kernel for arguments of these numba types is in the cache, for this processor."""
    cache = kernel._cache
    key = cache._index_key(types, kernel.targetctx.codegen())
    return key in cache._cache_file._load_index()


def cached(dispatcher: Any) -> Any:
    """The same numba dispatcher, its compiled code stored in a `SharedCache`."""
    cache, compile_now = SharedCache(dispatcher.py_func), dispatcher.compile

    def compile_and_release(sig: Any) -> Any:
        try:
            return compile_now(sig)
        finally:
            cache.release_lock()

    dispatcher._cache, dispatcher.compile = cache, compile_and_release
    return dispatcher


def _acquire_lock(path: Path) -> IO[bytes] | None:
    """The file, locked. None if it cannot be locked: the process then compiles for itself, which is slow but right."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as close_on_failure:
        file = close_on_failure.enter_context(path.open("ab"))
        end = time.monotonic() + _LOCK_TIMEOUT
        while time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                close_on_failure.pop_all()
                return file
            time.sleep(0.05)
    return None
