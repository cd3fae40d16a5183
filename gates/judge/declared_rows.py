"""The check on the rows that a loop with its own generator declares: a shuffle for each epoch, a function of the seed.

How alike two orders of n sequences are is counted in two ways: places that hold the same sequence in both, and pairs
of neighbours that are neighbours in both. For independent shuffles X such coincidences are rare: the mean number of
groups of k places is 1 / k!, of k neighbours at most 2^k / k!, and P(X >= k) is at most the mean number of groups.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gates.judge.run_record import TrainingPlan, is_rows
from gates.subject.run_directory import RunDirectory
from gates.verdict.finding import Finding, Problem, no_problems

FALSE_REFUSAL = 1e-9  # the chance that correct rows are refused
WHERE = "declared/rows"
Run = tuple[RunDirectory, TrainingPlan]


def rows(runs: Mapping[str, Run], same_seed: tuple[str, str], other_seed: tuple[str, str]) -> Finding:
    """Every epoch of every run has each sequence once; no order is that of another epoch, of the file, or of a seed.

    Of two runs of one seed and one corpus, which differ in their length, the rows are equal as far as both go; of two
    of different seeds they are unrelated.
    """
    said = {name: plan.declared.rows(run) for name, (run, plan) in runs.items()}
    problems = [p for name, (_, plan) in runs.items() for p in _whole(name, said[name], plan)]
    if not problems:
        orders = {name: list(_epochs(said[name], plan)) for name, (_, plan) in runs.items()}
        problems += [p for name in runs for p in _shuffled(name, orders[name], runs[name][1])]
        problems += _same(*same_seed, *(said[name] for name in same_seed))
        first, other = (orders[name][0] for name in other_seed)
        alike = _alike(first, other, most_alike(1))
        if alike:
            what = f"the first epochs of {' and '.join(other_seed)}, which have different seeds: {alike}"
            problems.append(Problem(what, "one order", "two unrelated ones"))
    of = f"{sum(map(len, said.values()))} updates of {len(runs)} runs"
    return no_problems(WHERE, problems, of=of)


def _whole(name: str, said: Sequence[Any], plan: TrainingPlan) -> Iterator[Problem]:
    """Batches of the right size that cut each epoch into what was not yet seen in it."""
    n, size = len(plan.sequences), plan.settings.batch_size
    seen = set[int]()
    for update, batch in enumerate(said, 1):
        place = f"{name}, update {update}: rows"
        if not is_rows(batch, n):
            yield Problem(place, str(batch)[:60], f"a list of numbers from 0 to {n - 1}")
            return
        if len(batch) != (due := min(size, n - len(seen))):
            yield Problem(f"{place}: how many", len(batch), due)
            return
        twice = [i for i in batch if i in seen or batch.count(i) > 1]
        if twice:
            yield Problem(
                f"{place}: sequence {twice[0]} is in its epoch twice", twice[0], "each sequence once"
            )
            return
        seen |= set(batch)
        if len(seen) == n:
            seen = set()


def _epochs(said: Sequence[Sequence[int]], plan: TrainingPlan) -> Iterator[list[int]]:
    """The order of each epoch; of the last, as far as it goes."""
    for start in range(0, len(said), plan.epoch_length):
        yield list(itertools.chain.from_iterable(said[start : start + plan.epoch_length]))


def _shuffled(name: str, orders: Sequence[list[int]], plan: TrainingPlan) -> Iterator[Problem]:
    """No two epochs, nor an epoch and the file, are alike."""
    known = {"the order of the file": list(range(len(plan.sequences)))}
    known |= {f"epoch {number}": order for number, order in enumerate(orders)}
    most = most_alike(len(known) * (len(known) - 1) // 2)
    for (one, a), (other, b) in itertools.combinations(known.items(), 2):
        if alike := _alike(a, b, most):
            yield Problem(
                f"{name}, {other} is ordered like {one}: {alike}", "one order", "an order of its own"
            )


def _same(one: str, other: str, a: Sequence[Any], b: Sequence[Any]) -> Iterator[Problem]:
    for update, (x, y) in enumerate(zip(a, b, strict=False), 1):
        if x != y:
            what = f"rows of update {update} of {other}, whose seed and data are those of {one}"
            yield Problem(what, str(y)[:60], str(x)[:60])
            return


def most_alike(comparisons: int) -> int:
    """So many coincidences have a chance below FALSE_REFUSAL over all comparisons, of places and of neighbours."""
    return next(
        k for k in itertools.count(1) if 2 * comparisons * 2.0**k / math.factorial(k) <= FALSE_REFUSAL
    )


def _alike(a: Sequence[int], b: Sequence[int], most: int) -> str:
    """In what two orders are too much alike; "" if in nothing."""
    places = sum(x == y for x, y in zip(a, b, strict=False))
    neighbours = len(_neighbours(a) & _neighbours(b))
    if places >= most:
        return f"{places} places have the same sequence"
    return f"{neighbours} pairs of neighbours are the same" if neighbours >= most else ""


def _neighbours(order: Sequence[int]) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in itertools.pairwise(order)}
