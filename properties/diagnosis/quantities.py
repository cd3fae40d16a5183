"""Which quantities of a trainer's answers are not the oracle's, call by call and update by update."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from honestloop.conventions import Conventions
from honestloop.guard import Call, Raised
from properties.diagnosis.candidate import Candidate, bounded, calls_of
from properties.diagnosis.comparing import FIELDS, PARAMETERS

COUNT, EVALUATION, RAISED = "updates", "evaluation", "raised"
"""Beside the fields of a record and the names of the parameters: number of records, evaluate, an error."""


@dataclass(frozen=True)
class Wrong:
    """One number that is beyond the bound of the oracle's."""

    quantity: str
    """A field of the record, the name of a parameter, or one of the words above."""
    call: int
    update: int
    """Counted from 0 within the run of its trainer; of parameters and evaluations, how many came before."""


@dataclass(frozen=True)
class Compared:
    """The calls of one example, what the oracle answers (with bounds), and all that is wrong, in order."""

    calls: Sequence[Call]
    expected: Sequence[Any]
    wrong: tuple[Wrong, ...]

    def has(self, *quantities: str) -> bool:
        """Whether one of these quantities is wrong anywhere."""
        return any(one.quantity in quantities for one in self.wrong)

    @property
    def parameters_wrong(self) -> bool:
        """Whether any parameter is."""
        return self.has(*PARAMETERS)


def compared(calls: Sequence[Call], conventions: Conventions) -> Compared:
    """The trainer's calls of an example against the oracle's loop."""
    mine = calls_of("trainer", calls)
    oracle = Candidate.oracle("trainer", conventions)
    with np.errstate(all="ignore"):
        expected = list(bounded(oracle.formula, mine, conventions)) if mine else []
    return Compared(mine, expected, tuple(differences(mine, expected)))


def differences(calls: Sequence[Call], expected: Sequence[Any]) -> Iterator[Wrong]:
    """What is wrong, in the order of the calls; of a record in the order in which an update computes its fields."""
    done: dict[int | None, int] = {}
    for number, (call, right) in enumerate(zip(calls, expected, strict=True)):
        update = done.get(call.target, 0)
        if isinstance(call.result, Raised) or isinstance(right, Raised):
            if not (isinstance(call.result, Raised) and isinstance(right, Raised)):
                yield Wrong(RAISED, number, update)
        elif call.method == "train":
            yield from of_records(call.result, right, number, update)
            done[call.target] = update + len(right)
        elif call.method == "parameters":
            for name in PARAMETERS:
                if name not in call.result or not near(call.result[name], right[name]):
                    yield Wrong(name, number, update)
        elif call.method == "evaluate" and not near(call.result, right):
            yield Wrong(EVALUATION, number, update)


def of_records(got: Any, right: Any, number: int, update: int) -> Iterator[Wrong]:
    """The same for the records of one call."""
    if len(got) != len(right):
        yield Wrong(COUNT, number, update)
    for k, (record, wanted) in enumerate(zip(got, right, strict=False)):
        for name in ("tokens", *(f for f in FIELDS if f != "tokens")):
            if name in record and not near(record[name], wanted[name]):
                yield Wrong(name, number, update + k)


def near(x: Any, wanted: Any) -> bool:
    """Whether a leaf is what the oracle has, within its bound. Where the bound says nothing, nothing is wrong."""
    value = np.asarray(getattr(wanted, "value", wanted), dtype=np.float64)
    bound = np.asarray(getattr(wanted, "bound", 0.0))
    got = np.asarray(x, dtype=np.float64)
    if got.shape != value.shape:
        return False
    with np.errstate(all="ignore"):
        same = (np.abs(got - value) <= bound) | ~np.isfinite(bound) | np.isnan(value) | (got == value)
    return bool(np.all(same))
