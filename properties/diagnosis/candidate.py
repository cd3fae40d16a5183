"""A function that may compute what a subject computes, and whether it does: in the calls of some examples.

A candidate matches when its answers are the subject's, byte for byte or within the error bound of its own formula.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.mutants import MUTANTS, Mutant
from fixtures.mutants.lifted import lifted
from fixtures.subjects import reference
from fixtures.temporary_folder import temporary_folder
from honestloop.conventions import Conventions
from honestloop.guard import OBJECTS, Call, Guard, Misbehaviour, Raised, copied
from properties.diagnosis.comparing import (
    comparable,
    float_arrays,
    is_number,
    same_numbers,
    same_structure,
    within,
)
from reference import bounds
from reference.arithmetic import unit_roundoff
from reference.bounds import Bounded, named_arrays
from reference.running_error import RunningErrorArray
from reference.training import Trainer
from reference.training_bounds import TracedTrainer
from reference.training_bounds import bounded as with_bounds

WHOLE_MODEL = frozenset({"forward", "loss_and_gradients"})
"""Functions so deep that their worst-case bound is too wide to tell mutants apart: the probable bound is used."""
PREFILTER_FACTOR = 1e4
"""An answer further from the subject's than this many bounds of the oracle is outside every mutant's own bound."""
TIME_LIMIT = 2.0
"""Seconds that a mutant may take for a call: some do not terminate on every input."""

Function = Callable[..., Any]
Example = Sequence[Call]


class Match(IntEnum):
    """How well a function's answers match the subject's in the same calls."""

    NONE = 0
    WITHIN_BOUND = 1
    EXACT = 2


@dataclass(frozen=True)
class Candidate:
    """A function that may compute what the subject computes."""

    name: str
    """Id of a mutant; the function's own name for an oracle."""
    protocol: str
    """Its name in the protocol."""
    function: Function
    formula: Function
    """The same function without casts, to be run on arrays that track rounding errors."""
    conventions: Conventions

    @classmethod
    def oracle(cls, function: str, conventions: Conventions) -> "Candidate":
        """The reference subject's own function."""
        correct = reference.functions(conventions)[function]
        return cls(function, function, correct, correct, conventions)

    @classmethod
    def loop(cls, name: str, trainer: type[Trainer], conventions: Conventions) -> "Candidate":
        """A variant of the reference loop."""
        keywords: dict[str, Any] = dict(reference.loop_conventions(conventions))
        made = functools.partial(trainer, **keywords)
        return cls(name, "trainer", made, made, conventions)

    def match(self, example: Example, required: int = Match.WITHIN_BOUND, plausible: Any = None) -> Match:
        """How well its answers match the subject's in all calls of its function; NONE as soon as less than `required`.

        `plausible`, from `prefilter`, says whether an answer is near enough for the bound to be computed.
        """
        calls = calls_of(self.protocol, example)
        exact = True
        with temporary_folder() as folder, np.errstate(all="ignore"):
            for place, answer in enumerate(replay(self.protocol, self.function, calls, Path(folder))):
                call = calls[place]
                if not same_structure(call, answer):
                    return Match.NONE
                exact = exact and same_numbers(call.result, answer.result)
                if exact:
                    continue
                if required > Match.WITHIN_BOUND or (plausible and not plausible(place, answer.result)):
                    return Match.NONE
            return Match.EXACT if exact else self._within_bounds(calls)

    def _within_bounds(self, calls: Example) -> Match:
        try:
            expected = bounded(self.formula, calls, self.conventions)
            inside = all(within(c.result, x) for c, x in zip(calls, expected, strict=True))
        except Exception:  # a formula that cannot run on error-tracking arrays has no bound
            inside = False
        return Match.WITHIN_BOUND if inside else Match.NONE


def suspects(
    function: str, conventions: Conventions, without: frozenset[str] = frozenset()
) -> Iterator[Candidate]:
    """Every known mistake in this function, and in functions that it calls, that is one under these conventions.

    The loop itself is written in fewer ways than the functions it calls: its own mistakes come first.
    """
    known = [m for m in MUTANTS.values() if m.id not in without and m.is_wrong_under(conventions)]
    for mutant in known:
        if mutant.function == function:
            yield direct(mutant, conventions)
    if function == "trainer":
        for mutant in known:
            for reading in lifted(mutant, conventions):
                yield Candidate.loop(mutant.id, reading, conventions)


def direct(mutant: Mutant, conventions: Conventions) -> Candidate:
    """The function of a mutant, otherwise following these conventions."""
    return Candidate(
        mutant.id, mutant.function, mutant.under(conventions), mutant.raw_under(conventions), conventions
    )


def calls_of(function: str, calls: Example) -> list[Call]:
    """The calls of one function of the protocol, and of the objects that it returned."""
    return comparable(call for call in calls if call.function == function)


def prefilter(oracle: Candidate, example: Example) -> Callable[[int, Any], bool] | None:
    """plausible(place, answer): whether an answer is near enough to the subject's for its bound to be computed.

    Bounds take long to compute. A mutant works on numbers of about the size of the arrays passed or of the answer, so
    that its bound is about the roundoff of the largest of them, or about the oracle's bound: `PREFILTER_FACTOR` times
    their sum is safe. None if the oracle has no bound for these calls.
    """
    calls = calls_of(oracle.protocol, example)
    try:
        with np.errstate(all="ignore"):
            found = list(bounded(oracle.formula, calls, oracle.conventions))
    except Exception:  # the oracle cannot run on error-tracking arrays with these arguments
        return None
    sizes = [largest(float_arrays((call.args, call.kwargs))) for call in calls]
    units = [unit_roundoff(x.dtype) for call in calls for x in float_arrays((call.args, call.kwargs))]
    unit = max(units, default=unit_roundoff(np.float64))

    def plausible(place: int, answer: Any) -> bool:
        allowed, others = dict(named_arrays(found[place])), dict(named_arrays(answer))
        for name, x in named_arrays(calls[place].result):
            if not is_number(x) or name not in others or not isinstance(allowed.get(name), Bounded):
                continue
            size = max(max(sizes[: place + 1]), largest(x), largest(others[name]))
            bound = allowed[name].bound
            if np.shape(bound) != np.shape(x) or not np.all(np.isfinite(bound)):
                continue
            near = np.abs(np.asarray(x, np.float64) - np.asarray(others[name], np.float64))
            if np.any(near > PREFILTER_FACTOR * (bound + unit * size)):
                return False
        return True

    return plausible


def largest(tree: Any) -> float:
    """The largest finite magnitude of any number in a structure; 0 for none."""
    sizes = [np.abs(np.asarray(x, np.float64)) for _, x in named_arrays(tree) if is_number(x)]
    return max((float(np.max(x, where=np.isfinite(x), initial=0.0)) for x in sizes), default=0.0)


# ---- the calls again


def replay(name: str, function: Function, calls: Example, folder: Path) -> Iterator[Call]:
    """The same calls of this function and of the objects that it returns; checkpoints are saved to the folder."""
    guard = Guard(TIME_LIMIT)
    guarded = guard.function(name, function)
    objects: dict[int | None, Any] = {}
    paths: dict[str, str] = {}
    for call in calls:
        args, kwargs = copied(call.args), copied(call.kwargs)
        if call.method in ("save", "load"):
            args = (paths.setdefault(str(args[0]), str(folder / str(len(paths)))),)
        try:
            if call.method is None:
                objects[call.target] = guarded(*args, **kwargs)
            elif call.read:
                getattr(objects[call.target], call.method)
            else:
                getattr(objects[call.target], call.method)(*args, **kwargs)
        except Misbehaviour:
            pass  # the guard has recorded it in its calls
        except KeyError:  # the object does not exist, because its constructor raised
            guard.calls.append(Call(call.function, call.method, call.target, args, kwargs, Raised("", "")))
        yield guard.calls[-1]


def bounded(formula: Function, calls: Example, conventions: Conventions) -> Iterator[Any]:
    """The formula's answer to each call, with its error bound. TypeError for objects that compute no floats."""
    if calls[0].function == "trainer":
        yield from bounded_trainers(formula, calls, conventions)
        return
    if calls[0].function in OBJECTS:
        raise TypeError("objects without arithmetic have no bound")
    dtypes = [x.dtype for call in calls for x in float_arrays((call.args, call.kwargs))]
    for call in calls:
        dtype = next((x.dtype for x in float_arrays((call.args, call.kwargs))), (*dtypes, np.float64)[0])
        args, kwargs = in_double(call.args), in_double(call.kwargs)
        if call.function in WHOLE_MODEL:
            yield bounds.probable(formula, *args, dtype=dtype, draws=3, **kwargs)
        else:
            yield bounds.worst_case(formula, *args, dtype=dtype, scalars=conventions.scalars, **kwargs)


def bounded_trainers(formula: Any, calls: Example, conventions: Conventions) -> Iterator[Any]:
    """The answers of trainers, with bounds over all their operations so far; their checkpoints stay in memory.

    A call that the formula refuses has the answer `Raised`.
    """
    bases = (TracedTrainer,) if formula.func is Trainer else (BoundedRate, formula.func, TracedTrainer)
    watched: Any = type(formula.func.__name__, bases, {"checkpoints": {}})
    objects: dict[int | None, Any] = {}
    for call in calls:
        if call.method is None:
            dtype = float_arrays(call.args)[0].dtype
            objects[call.target] = watched(
                *in_double(call.args), dtype=dtype, scalars=conventions.scalars, **formula.keywords
            )
            yield None
            continue
        try:
            found = getattr(objects[call.target], call.method)(*in_double(call.args), **call.kwargs)
        except FloatingPointError as error:
            found = Raised(type(error).__name__, str(error))
        yield found if isinstance(found, Raised) else with_bounds(found)


class BoundedRate:
    """Before a loop whose rate is a plain number: that number, with the bound of a rate in any schedule."""

    plain: dict[str, Any]
    unit: float

    def rate(self, k: int) -> Any:
        """The rate of update k, from 0."""
        found = super().rate(k)  # type: ignore[misc]
        if isinstance(found, RunningErrorArray):
            return found
        bound = bounds.learning_rate(peak=self.plain["peak"], floor=self.plain["floor"], unit=self.unit)
        return RunningErrorArray((np.asarray(found, np.float64), np.asarray(bound)), self.unit)


def in_double(tree: Any) -> Any:
    """A structure with its float arrays in float64, which represents every float32 exactly; lists stay lists."""
    if isinstance(tree, np.ndarray):
        return tree.astype(np.float64) if tree.dtype.kind == "f" else tree
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(in_double, tree))
    return {key: in_double(x) for key, x in tree.items()} if isinstance(tree, dict) else tree
