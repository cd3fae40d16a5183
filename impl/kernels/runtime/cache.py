"""Where compiled kernels are kept: a private directory, named after a hash of the kernels' source.

Numba's cache does not notice an edit of a callee in another file; a new directory for every source state does. Two
processes that miss the same kernel compile it once: one compiles, the other waits and loads what it has saved.
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
_DAYS_KEPT = 7
_PATIENCE = 120.0  # seconds; the largest kernel takes a fifth of it


def source_hash() -> str:
    """SHA-256 over the names and contents of the kernels' files, 64 hex digits; kernels call nothing outside it."""
    digest = hashlib.sha256()
    for path in sorted(_KERNELS.rglob("*.py")):
        digest.update(path.relative_to(_KERNELS).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
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


class Library(JITCodeLibrary):  # type: ignore[misc]
    """Numba's code of one function; of a cached one, what others are compiled with is read if there are any."""

    _bitcode: bytes | None = None

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> Any:
        name, _, (machine_code, bitcode) = state
        library = codegen.create_library(name)
        library.enable_object_caching()
        library._set_compiled_object(machine_code)
        library._bitcode = bitcode
        library._finalize_final_module()
        return library

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
    """Numba's cache of one function; what is not in it yet is compiled by one process at a time."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._own = threading.local()  # a thread that has waited for another's compilation has no turn to end

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code, or None: it is then this thread's turn to compile it, until its `end_turn`."""
        found = self._found(sig, target_context)
        if found is None and getattr(self._own, "turn", None) is None:
            self._own.turn = _locked(Path(self.cache_path) / f"{self._impl.filename_base}.lock")
            found = self._found(sig, target_context)
        return found

    def _found(self, sig: Any, target_context: Any) -> Any:
        """As in numba, but without reading in first what it compiles from: that takes longer than to load code."""
        return self._load_overload(sig, target_context)

    def end_turn(self) -> None:
        turn, self._own.turn = getattr(self._own, "turn", None), None
        if turn is not None:
            fcntl.flock(turn, fcntl.LOCK_UN)  # a fork may hold the file open
            turn.close()


def kept(dispatcher: Any) -> Any:
    """Have the compiled code of a function kept on the disk."""
    cache, compiles = SharedCache(dispatcher.py_func), dispatcher.compile

    def compile_in_turn(sig: Any) -> Any:
        try:
            return compiles(sig)
        finally:
            cache.end_turn()

    dispatcher._cache, dispatcher.compile = cache, compile_in_turn
    return dispatcher


def _locked(path: Path) -> IO[bytes] | None:
    """The file, locked; or None if that cannot be had: a process that compiles for itself is slow, but right."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as unless_locked:
        file = unless_locked.enter_context(path.open("ab"))
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unless_locked.pop_all()
                return file
            time.sleep(0.05)
    return None
