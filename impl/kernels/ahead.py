"""Compile kernels ahead of their first call: the attention in a second process, while this one compiles the rest.

A training compiles its kernels once for each state of the source, which takes most of a minute on one core. Numba holds
a lock while it compiles, so that a second thread would wait; a second process fills the cache that both share, and each
waits for what the other is compiling (see runtime/cache.py).
"""

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import numba

from impl.kernels import attention
from impl.kernels.runtime.cache import is_cached


def signatures(dtype: str) -> list[tuple[Any, tuple[Any, ...]]]:
    """What is compiled ahead: kernels of a training in this dtype, each with the types that it is called with."""

    def array(of: Any, dimensions: int) -> Any:
        return numba.types.Array(of, dimensions, "C")

    real = {"float32": numba.float32, "float64": numba.float64}[dtype]
    matrix, weights = array(real, 2), array(real, 4)
    starts, key_mask = array(numba.int64, 1), array(numba.boolean, 1)
    return [
        (
            attention.attention_backward,
            (matrix, matrix, matrix, matrix, starts, weights, real, matrix, matrix, matrix),
        ),
        (
            attention.attention,
            (matrix, matrix, matrix, starts, key_mask, real, numba.int64, matrix, weights),
        ),
    ]


def missing(dtype: str) -> bool:
    """Whether a kernel of `signatures` is not in the cache."""
    return not numba.config.DISABLE_JIT and not all(is_cached(*wanted) for wanted in signatures(dtype))


@contextlib.contextmanager
def second_process(dtype: str) -> Iterator[None]:
    """Compile `signatures` in a process of its own, if there is a core for it; it ends with this block at the latest.

    It is a fork, so that nothing is imported again; one of a process whose threads are at work could wait for a lock
    that none of them will give back, so there is none then. It holds what is locked by then: call it before.
    """
    if sys.platform != "linux" or threading.active_count() > 1 or numba.config.NUMBA_DEFAULT_NUM_THREADS < 2:
        yield
        return
    with warnings.catch_warnings(action="ignore"):  # of the threads of other libraries, which sleep
        process = os.fork()
    if process == 0:
        _compile_silently(dtype)
    try:
        yield
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _compile_silently(dtype: str) -> NoReturn:
    """The life of the second process. What it cannot compile, the first one does, and says why not."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        silence = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(silence, standard)
        for kernel, types in signatures(dtype):
            kernel.compile(types)
    finally:
        os._exit(0)
