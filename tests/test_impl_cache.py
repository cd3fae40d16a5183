"""The cache of compiled kernels: a kernel that several processes need at once is compiled once."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import pytest

from impl.kernels.reduce import sum_squares
from impl.kernels.runtime import cache

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
