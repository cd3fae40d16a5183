"""Which updates of a judged run are audited, and how likely a mistake that comes and goes is to be seen.

An auditor who looked at fixed updates could be dodged by a mistake at all others. So a run of N updates is cut into
strata, the updates between one checkpoint and the next, and one update is drawn from each, all of them alike and
independently. To these come the special ones, which are always looked at: the last of the warm-up, edges of epochs,
the last.

A mistake in the updates a to a + k - 1, of which k_i are in stratum i of n_i updates, is seen with the chance

    1  if a special update is among them, else  1 - prod_i (1 - k_i / n_i)

So it is surely seen if it fills a stratum, hence if it lasts 2 n - 1 updates where no stratum is longer than n. If it
begins anywhere and strata are of one length n, its mean chance is about k / n for a small k. Source: stratified
sampling, Cochran, "Sampling techniques", 3rd ed., 1977, chapter 5.
"""

import itertools
import random
from collections.abc import Iterable, Sequence

Stratum = range
"""Updates, counted from 1, of which one is drawn."""


def strata(steps: int, checkpoints: Iterable[int], at_least: int = 1) -> list[Stratum]:
    """The updates 1 to `steps`, cut behind every checkpoint; the longest are halved until there are `at_least`.

    There are never more than `steps`. ValueError if there is no update.
    """
    if steps < 1:
        raise ValueError(f"a run of {steps} updates has none to draw")
    edges = sorted({0, steps, *(step for step in checkpoints if 0 < step < steps)})
    while len(edges) - 1 < min(at_least, steps):
        gaps = [after - before for before, after in itertools.pairwise(edges)]
        widest = gaps.index(max(gaps))
        edges.insert(widest + 1, edges[widest] + gaps[widest] // 2)
    return [range(before + 1, after + 1) for before, after in itertools.pairwise(edges)]


def draw(
    chance: random.Random,
    steps: int,
    checkpoints: Iterable[int],
    special: Iterable[int] = (),
    at_least: int = 1,
) -> list[int]:
    """The updates to audit, in order, each once: one of every stratum, and the special ones that the run has."""
    drawn = [chance.choice(stratum) for stratum in strata(steps, checkpoints, at_least)]
    return sorted({*drawn, *_within(steps, special)})


def chance_of_seeing(
    mistaken: range, steps: int, checkpoints: Iterable[int], special: Iterable[int] = (), at_least: int = 1
) -> float:
    """The formula above: the chance that a draw has one of the `mistaken` updates, counted from 1."""
    if any(update in mistaken for update in _within(steps, special)):
        return 1.0
    missed = 1.0
    for stratum in strata(steps, checkpoints, at_least):
        shared = min(mistaken.stop, stratum.stop) - max(mistaken.start, stratum.start)
        missed *= 1.0 - max(0, shared) / len(stratum)
    return 1.0 - missed


def mean_chance_of_seeing(
    length: int, steps: int, checkpoints: Sequence[int], special: Sequence[int] = (), at_least: int = 1
) -> float:
    """The same for a mistake that lasts `length` updates and begins anywhere in the run with the same probability."""
    length = min(length, steps)
    begins = range(1, steps - length + 2)
    seen = (chance_of_seeing(range(a, a + length), steps, checkpoints, special, at_least) for a in begins)
    return sum(seen) / len(begins)


def checkpoint_before(update: int, checkpoints: Iterable[int]) -> int:
    """The last checkpoint from which the update can be made again; 0, the beginning, if there is none."""
    return max((step for step in checkpoints if step < update), default=0)


def _within(steps: int, special: Iterable[int]) -> list[int]:
    return [update for update in special if 1 <= update <= steps]
