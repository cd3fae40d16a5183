"""Accuracy above chance, and how a language model takes a test of several choices (CORE of DCLM, Li et al. 2024)."""

from collections.abc import Sequence

import numpy as np

from impl.rng import stream_key, uniform_bits


def centered_accuracy(tasks: Sequence[tuple[Sequence[bool], float]]) -> tuple[list[float], float]:
    """((accuracy - b) / (1 - b) of each task, their mean), b the baseline, given in percent.

    ValueError for no tasks, a task without questions, or a baseline of 100.
    """
    if not tasks or any(not right or baseline >= 100 for right, baseline in tasks):
        raise ValueError("each task needs a question and a baseline below 100 percent")
    centred = [
        (sum(map(bool, right)) / len(right) - baseline / 100.0) / (1.0 - baseline / 100.0)
        for right, baseline in tasks
    ]
    return centred, sum(centred) / len(centred)


def choose_option(losses: Sequence[Sequence[float]], normalise: bool = True) -> int:
    """The option of the lowest mean loss over its tokens, or of the lowest sum; the first of equals."""
    return int(np.argmin([sum(x) / len(x) if normalise else sum(x) for x in losses]))


def few_shot(n: int, item: int, shots: int, seed: int) -> list[int]:
    """Numbers of min(shots, n - 1) other questions, a function of (seed, item)."""
    others = [k for k in range(n) if k != item]
    words = uniform_bits(stream_key(seed, "examples"), len(others), 0, item, 0).astype(np.uint64)
    order = np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable")
    return [others[k] for k in order[:shots]]
