"""Accuracy that chance does not raise, and how a language model takes a test of several choices (CORE of DCLM).

    centred = (accuracy - b) / (1 - b),   b = baseline / 100,   the score of a set of tasks is the mean over the tasks

A guesser has 0 whatever the number of choices, who knows all has 1, who is worse than chance is below 0. A task has the
weight of one task, however many questions it has.

The model chooses the option whose tokens have the lowest mean loss: a sum would prefer the shorter ones. The first of
equals is chosen. Questions shown before a question as examples are drawn without it, and as many as there are.

Source: Li et al., "DataComp-LM", 2024, appendix G.
"""

from collections.abc import Sequence

import numpy as np

from reference.philox import counters, philox4x32, stream_key


def centered_accuracy(tasks: Sequence[tuple[Sequence[bool], float]]) -> tuple[list[float], float]:
    """(centred accuracy of each task, their mean); a task is whether each answer is right, and its baseline in percent.

    ValueError for no tasks, a task without questions, or a baseline of 100.
    """
    if not tasks or not all(correct and baseline < 100 for correct, baseline in tasks):
        raise ValueError("each task needs a question and a baseline below 100 percent")
    centred = []
    for correct, baseline in tasks:
        chance = baseline / 100.0
        centred.append((sum(map(bool, correct)) / len(correct) - chance) / (1.0 - chance))
    return centred, sum(centred) / len(centred)


def choose_option(losses: Sequence[Sequence[float]], normalise: bool = True) -> int:
    """The option of the lowest loss, the first of equals: the mean over its tokens, or with `normalise` off the sum."""
    totals = [sum(tokens) / len(tokens) if normalise else sum(tokens) for tokens in losses]
    return int(np.argmin(totals))


def few_shot(n: int, item: int, shots: int, seed: int) -> list[int]:
    """Which of n questions are shown before question `item`: min(shots, n - 1) others, by a draw of (seed, item)."""
    others = [k for k in range(n) if k != item]
    words = philox4x32(counters(np.arange(len(others)), 0, item), stream_key(seed, "examples")).astype(
        np.uint64
    )
    order = np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable")
    return [others[k] for k in order[:shots]]
