"""The cache of compiled kernels: a kernel that several processes need at once is compiled once."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import psutil
import pytest

from impl.kernels import ahead, gemm
from impl.kernels.reduce import sum_squares
from impl.kernels.runtime import cache
from impl.report.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
COUNT = """
from impl.kernels.reduce import sum_squares
import numpy as np
sum_squares(np.ones(4))
print(sum(sum_squares.stats.cache_misses.values()))
"""


def test_two_processes_compile_a_kernel_once(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_DISABLE_JIT": "0"}
    command = [sys.executable, "-c", COUNT]
    started = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    compiled = [int(process.communicate(timeout=120)[0]) for process in started]
    assert sorted(compiled) == [0, 1]


def test_a_compilation_that_fails_releases_its_lock(monkeypatch):
    monkeypatch.setattr(cache, "_LOCK_TIMEOUT", 60.0)
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(numba.TypingError):
            sum_squares(["no array"])
    assert time.monotonic() - began < 40.0


def test_a_thread_releases_only_its_own_lock(tmp_path):
    shared = cache.SharedCache(getattr(sum_squares, "py_func", sum_squares))
    with (tmp_path / "lock").open("ab") as file:
        shared._thread.lock = file
        other = threading.Thread(target=shared.release_lock)
        other.start()
        other.join()
        assert not file.closed
        shared.release_lock()
        assert file.closed


def test_a_lock_ends_with_its_process_and_a_wait_with_the_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_LOCK_TIMEOUT", 0.2)
    with (tmp_path / "work.lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert cache._acquire_lock(tmp_path / "work.lock") is None
    mine = cache._acquire_lock(tmp_path / "work.lock")
    assert mine is not None
    mine.close()


@pytest.mark.parametrize("name", ["nowhere/work.lock", ""])
def test_a_lock_that_cannot_be_had_keeps_nobody_from_compiling(tmp_path, name):
    assert cache._acquire_lock(tmp_path / name) is None


def test_without_a_home_the_cache_is_in_the_temporary_directory(tmp_path, monkeypatch):
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert cache.cache_directory().parent == tmp_path / f"honestloop-{os.getuid()}"


def test_what_compiles_ahead_ends_with_what_needs_it(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_DEFAULT_NUM_THREADS", 2)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(ahead, "signatures", lambda dtype: [(time, (dtype,))])
    monkeypatch.setattr(time, "compile", lambda types: time.sleep(60), raising=False)
    before = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt), ahead.second_process("float32"):
        (started,) = set(psutil.Process().children()) - before
        assert started.status() != psutil.STATUS_ZOMBIE
        raise KeyboardInterrupt
    assert not started.is_running()


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 3)])
def test_no_process_is_forked_without_a_core_for_it_or_beside_threads(monkeypatch, cores, threads):
    monkeypatch.setattr(numba.config, "NUMBA_DEFAULT_NUM_THREADS", cores)
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    before = psutil.Process().children()
    with ahead.second_process("float32"):
        assert psutil.Process().children() == before


def test_a_kernel_is_in_the_cache_once_it_is_compiled_for_its_types():
    sum_squares(np.ones(4, np.float32))
    of: Any = numba.types.Array
    assert cache.is_cached(sum_squares, (of(numba.float32, 1, "C"),))
    assert not cache.is_cached(sum_squares, (of(numba.float32, 3, "F"),))


def test_gemm_is_compiled_for_the_dtype_it_is_called_with_and_for_any_strides():
    rows = np.ones((3, 4), np.float32)
    for a in (rows, np.asfortranarray(rows), rows[::-1]):
        gemm.gemm(a, np.ones((4, 2), np.float32), np.empty((3, 2), np.float32), False)
    product: Any = gemm.gemm
    assert len([types for types in product.signatures if types[2].dtype == numba.float32]) == 1


def test_what_a_first_training_waits_for_is_shown_until_its_first_step(monkeypatch):
    shown = Progress(10, 0)
    monkeypatch.setattr(cache.COMPILED, "done", 0)
    assert shown.compiling() == ""
    monkeypatch.setattr(cache.COMPILED, "done", 12)
    assert shown.compiling() == "compiling kernels: 12 are done"
    shown.show({"step": 1, "loss": 2.0, "lr": 0.1})
    assert shown.compiling() == ""
