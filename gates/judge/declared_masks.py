"""The check on masks that a loop with its own generator declares: independent draws, a function of seed and update.

An entry is kept with the chance q = 1 - p, on its own. So of N entries the number kept, and of N pairs of entries the
number of equal pairs, are binomial with a known chance x, and the share s found of N has

    P(s as far off) <= 2 exp(-N KL(s || x))                            Chernoff; Hoeffding, 1963, theorem 1

which refuses a correct generator with a chance below FALSE_REFUSAL, over all comparisons of a session.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gates.judge.run_record import TrainingPlan
from gates.subject.declarations import Masks
from gates.verdict.finding import Finding, Problem, no_problems

FALSE_REFUSAL = 1e-9  # the chance that correct masks are refused
COMPARISONS = 1e6  # more than a session makes
WHERE = "declared/masks"
LONGEST = 4096  # entries of a mask that are compared with those of other updates


@dataclass(frozen=True)
class Asked:
    """A run, which of its updates' masks are looked at, and the same masks told once more."""

    name: str
    plan: TrainingPlan
    updates: tuple[int, ...]
    again: Callable[[int], Masks] | None = None
    """The masks of an update, told by another run of the same seed and the same rows."""


def masks(asked: Sequence[Asked], other_seed: tuple[Asked, Asked]) -> Finding:
    """Shape, share kept, independence within a mask, between sites and updates and seeds; and told twice, the same."""
    problems, entries = list[Problem](), 0
    for one in asked:
        told = {update: one.plan.masks(update) for update in one.updates}
        entries += sum(mask.size for sites in told.values() for mask in sites.values())
        problems += _of_run(one, told)
    problems += _seeds(*other_seed)
    return no_problems(
        WHERE, problems, of=f"{entries:,} entries of {sum(len(a.updates) for a in asked)} updates"
    )


def _of_run(one: Asked, told: Mapping[int, Masks]) -> Iterator[Problem]:
    keep = 1.0 - one.plan.settings.dropout
    if keep == 1.0:
        return
    for update, sites in told.items():
        for site, mask in sites.items():
            yield from _within(f"{one.name}, update {update}, site {site}", mask, keep)
        for (a, x), (b, y) in itertools.combinations(sites.items(), 2):
            yield from _unrelated(f"{one.name}, update {update}: sites {a} and {b}", x, y, keep)
        if one.again and any((one.again(update)[site] != mask).any() for site, mask in sites.items()):
            what = f"{one.name}, update {update}: the masks that another run with its seed and its rows tells"
            yield Problem(what, "others", "the same: they are a function of seed and update")
    pooled = np.concatenate([mask.reshape(-1) for sites in told.values() for mask in sites.values()])
    yield from _share(f"{one.name}: kept by dropout", int(pooled.sum()), pooled.size, keep)
    for k, m in itertools.combinations(told, 2):
        for site, mask in told[k].items():
            yield from _unrelated(f"{one.name}, site {site}: updates {k} and {m}", mask, told[m][site], keep)


def _seeds(one: Asked, other: Asked) -> Iterator[Problem]:
    keep, update = 1.0 - one.plan.settings.dropout, one.updates[0]
    if keep == 1.0 or one.plan.settings.dropout != other.plan.settings.dropout:
        return
    x, y = one.plan.masks(update), other.plan.masks(update)
    for site in x:
        names = f"{one.name} and {other.name}, which have different seeds"
        yield from _unrelated(f"update {update}, site {site}: {names}", x[site], y[site], keep)


def _within(place: str, mask: np.ndarray, keep: float) -> Iterator[Problem]:
    """The share kept; and no two rows, positions or features have the same draws."""
    yield from _share(f"{place}: kept by dropout", int(mask.sum()), mask.size, keep)
    for axis, what in enumerate(("rows", "positions", "features")):
        flat = np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1).astype(np.float64)
        equal = flat @ flat.T + (1.0 - flat) @ (1.0 - flat).T
        first, second = np.triu_indices(len(flat), 1)
        if not len(first):
            continue
        found = equal[first, second]
        worst = int(np.argmax(_surprise(found / flat.shape[1], _equal_pairs(keep))))
        pair = f"{place}: {what} {first[worst]} and {second[worst]} are drawn together"
        yield from _share(pair, int(found[worst]), flat.shape[1], _equal_pairs(keep), len(first))


def _unrelated(place: str, x: np.ndarray, y: np.ndarray, keep: float) -> Iterator[Problem]:
    """Entries at the same place of two masks, and in the same order of two masks of different shapes."""
    corner = tuple(slice(min(a, b)) for a, b in zip(x.shape, y.shape, strict=True))
    length = min(x.size, y.size, LONGEST)
    pairs = [(x[corner].reshape(-1)[:LONGEST], y[corner].reshape(-1)[:LONGEST])]
    pairs.append((x.reshape(-1)[:length], y.reshape(-1)[:length]))
    for a, b in pairs if x.shape != y.shape else pairs[:1]:
        found = list(_share(f"{place} are drawn together", int((a == b).sum()), a.size, _equal_pairs(keep)))
        if found:
            yield found[0]
            return


def _equal_pairs(keep: float) -> float:
    return keep * keep + (1.0 - keep) * (1.0 - keep)


def _share(what: str, found: int, of: int, chance: float, comparisons: int = 1) -> Iterator[Problem]:
    """A binomial number that is beyond its bound."""
    limit = math.log(2.0 * COMPARISONS * comparisons / FALSE_REFUSAL)
    if of * float(_surprise(np.asarray(found / of), chance)) > limit:
        yield Problem(what, f"a share of {found / of:.4f} of {of:,}", f"{chance:.4f}, give or take chance")


def _surprise(share: np.ndarray, chance: float) -> np.ndarray:
    """KL(share || chance) of two coins, in nats."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.where(share > 0, share * np.log(share / chance), 0.0)
        other = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - chance)), 0.0)
    return np.asarray(one + other)
