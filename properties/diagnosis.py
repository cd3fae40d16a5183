"""Which mistake a failure looks like: the calls of the failing example are made again on mutants.

A mutant is named when it answers every call of the failing example as the subject did, within the error bound of the
mutant's own formula, while the oracle does not. If several do, those remain that explain the examples that passed, too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.folder import folder_for_a_moment
from fixtures.mutants import MUTANTS, Mutant
from fixtures.subjects import reference
from honestloop.conventions import Conventions
from honestloop.guard import OBJECTS, Call, Guard, Misbehaviour, Raised, arrays_in, copied
from reference import bounds
from reference.bounds import Bounded, named_arrays
from reference.running_error import RunningErrorArray
from reference.training import Trainer
from reference.training_bounds import TracedTrainer

DEEP = frozenset({"forward", "loss_and_gradients"})
"""Functions whose worst-case bound says nothing; the probable one is used."""

FAR = 1e4
"""In bounds of the oracle: no mutant's own bound is as large."""
PATIENCE = 2.0
"""Seconds that a mutant may take for a call: some never return."""

Function = Callable[..., Any]


class Likeness(IntEnum):
    """How much what a function does in some calls is what the subject did."""

    NONE = 0
    WITHIN_BOUND = 1
    EXACT = 2


def diagnose(
    example: Sequence[Call], passed: Sequence[Sequence[Call]], conventions: Conventions
) -> tuple[Mutant, ...]:
    """The mutants that are more like the subject than the oracle is."""
    found: list[Mutant] = []
    for function in dict.fromkeys(call.function for call in example):
        calls = of(function, example)
        oracle = Candidate.oracle(function, conventions)
        least = oracle.likeness(calls) + 1
        if least > Likeness.EXACT:
            continue
        suspects = [Candidate.mutant(m, conventions) for m in MUTANTS.values() if m.function == function]
        near = neighbourhood(oracle, calls)
        matching = [
            suspect
            for suspect in suspects
            if suspect.wrong and suspect.likeness(calls, least=least, near=near) >= least
        ]
        if len(matching) > 1:
            others = [others for calls in passed if (others := of(function, calls))]
            scores = [sum(suspect.likeness(calls) for calls in others) for suspect in matching]
            matching = [s for s, score in zip(matching, scores, strict=True) if score == max(scores)]
        found += [MUTANTS[suspect.name] for suspect in matching]
    return tuple(found)


def of(function: str, calls: Sequence[Call]) -> list[Call]:
    return [call for call in calls if call.function == function]


@dataclass(frozen=True)
class Candidate:
    """A function that may be what the subject runs."""

    name: str
    function: Function
    formula: Function
    """The same function, to be run on watched arrays."""
    conventions: Conventions
    wrong: bool

    @classmethod
    def oracle(cls, function: str, conventions: Conventions) -> "Candidate":
        """The law itself."""
        correct = reference.functions(conventions)[function]
        made: Any = Trainer
        trainer = partial(made, **conventions.adamw, **conventions.clipping, schedule=conventions.schedule)
        return cls(function, correct, trainer if function == "trainer" else correct, conventions, False)

    @classmethod
    def mutant(cls, mutant: Mutant, conventions: Conventions) -> "Candidate":
        """One of the mutants."""
        wrong = mutant.is_wrong_under(conventions)
        return cls(mutant.id, mutant.under(conventions), mutant.raw_under(conventions), conventions, wrong)

    def likeness(
        self, calls: Sequence[Call], *, least: int = Likeness.WITHIN_BOUND, near: Any = None
    ) -> Likeness:
        """How alike it is to the subject in all these calls; below `least` it is not looked at further."""
        with folder_for_a_moment() as folder, np.errstate(all="ignore"):
            exact = True
            for place, answer in enumerate(replay(self.function, calls, Path(folder))):
                call = calls[place]
                if not alike(call, answer):
                    return Likeness.NONE
                exact = exact and same_numbers(call.result, answer.result)
                if not exact and (least > Likeness.WITHIN_BOUND or (near and not near(place, answer.result))):
                    return Likeness.NONE
            if exact:
                return Likeness.EXACT
            try:
                expected = bounded(self.formula, calls, self.conventions)
                inside = all(within(c.result, x) for c, x in zip(calls, expected, strict=True))
            except Exception:  # a formula that cannot be watched has no bound
                inside = False
            return Likeness.WITHIN_BOUND if inside else Likeness.NONE


def neighbourhood(oracle: Candidate, calls: Sequence[Call]) -> Callable[[int, Any], bool] | None:
    """Whether an answer is so near the subject's that its own bound is worth computing, which takes long.

    A mutant's bound is about the oracle's, as it works on numbers of about the same size.
    """
    try:
        with np.errstate(all="ignore"):
            bound = list(bounded(oracle.formula, calls, oracle.conventions))
    except Exception:  # the calls are such that the oracle has no bound
        return None

    def near(place: int, answer: Any) -> bool:
        allowed = dict(named_arrays(bound[place]))
        others = dict(named_arrays(answer))
        return all(
            within_leaf(x, Bounded(others[name], FAR * allowed[name].bound))
            for name, x in named_arrays(calls[place].result)
            if is_number(x) and isinstance(allowed.get(name), Bounded) and name in others
        )

    return near


# ---- the calls again


def replay(function: Function, calls: Sequence[Call], folder: Path) -> Iterator[Call]:
    """The same calls of this function and of the objects it makes; checkpoints go to the folder."""
    guard = Guard(PATIENCE)
    made = guard.function(calls[0].function, function)
    objects: dict[int | None, Any] = {}
    paths: dict[str, str] = {}
    for call in calls:
        args, kwargs = copied(call.args), copied(call.kwargs)
        if call.method in ("save", "load"):
            args = (paths.setdefault(str(args[0]), str(folder / str(len(paths)))),)
        try:
            if call.method is None:
                objects[call.target] = made(*args, **kwargs)
            elif call.read:
                getattr(objects[call.target], call.method)
            else:
                getattr(objects[call.target], call.method)(*args, **kwargs)
        except Misbehaviour:
            pass  # the guard has written it down
        except KeyError:  # an object that could not be made
            guard.calls.append(Call(call.function, call.method, call.target, args, kwargs, Raised("", "")))
        yield guard.calls[-1]


def bounded(formula: Function, calls: Sequence[Call], conventions: Conventions) -> Iterator[Any]:
    """The formula's answers with its error bounds, one a call."""
    if calls[0].function == "trainer":
        yield from bounded_trainers(formula, calls, conventions)
        return
    if calls[0].function in OBJECTS:
        raise TypeError("objects without arithmetic have no bound")
    dtypes = [x.dtype for call in calls for x in float_arrays((call.args, call.kwargs))]
    for call in calls:
        dtype = next((x.dtype for x in float_arrays((call.args, call.kwargs))), (*dtypes, np.float64)[0])
        args, kwargs = in_double(call.args), in_double(call.kwargs)
        if call.function in DEEP:
            yield bounds.probable(formula, *args, dtype=dtype, draws=3, **kwargs)
        else:
            yield bounds.worst_case(formula, *args, dtype=dtype, scalars=conventions.scalars, **kwargs)


def bounded_trainers(formula: Any, calls: Sequence[Call], conventions: Conventions) -> Iterator[Any]:
    """The answers of trainers whose every operation is watched; their checkpoints stay in memory."""
    bases = (TracedTrainer,) if formula.func is Trainer else (formula.func, TracedTrainer)
    watched: Any = type(formula.func.__name__, bases, {"checkpoints": {}})
    objects: dict[int | None, Any] = {}
    for call in calls:
        if call.method is None:
            dtype = float_arrays(call.args)[0].dtype
            objects[call.target] = watched(
                *in_double(call.args), dtype=dtype, scalars=conventions.scalars, **formula.keywords
            )
            yield None
        else:
            answer = getattr(objects[call.target], call.method)(*in_double(call.args), **call.kwargs)
            yield bounds.map_arrays(of_watched, answer)


def of_watched(x: Any) -> Any:
    """A watched number with its bound; anything else is exact."""
    return Bounded(x.value, bounds.allowed(x)) if isinstance(x, RunningErrorArray) else x


def in_double(tree: Any) -> Any:
    """Float arrays in double precision, which holds what either precision holds; lists stay lists."""
    if isinstance(tree, np.ndarray):
        return tree.astype(np.float64) if tree.dtype.kind == "f" else tree
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(in_double, tree))
    return {key: in_double(x) for key, x in tree.items()} if isinstance(tree, dict) else tree


# ---- comparing answers


def float_arrays(tree: Any) -> list[np.ndarray[Any, Any]]:
    return [x for x in arrays_in(tree) if x.dtype.kind == "f"]


def alike(call: Call, again: Call) -> bool:
    """Equal but for the digits of numbers: effects, structure, shapes, dtypes, text; both raised or neither."""
    a, b = call.result, again.result
    if call.effects != again.effects:
        return False
    if isinstance(a, Raised) or isinstance(b, Raised):
        return isinstance(a, Raised) and isinstance(b, Raised)
    left, right = dict(named_arrays(a)), dict(named_arrays(b))
    return left.keys() == right.keys() and all(alike_leaf(x, right[name]) for name, x in left.items())


def alike_leaf(x: Any, y: Any) -> bool:
    if not (is_number(x) and is_number(y)):
        return type(x) is type(y) and (not isinstance(x, (str, bytes)) or x == y)
    if is_array(x) and is_array(y) and kind(x) != kind(y):
        return False
    if isinstance(x, np.generic) != isinstance(y, np.generic) and kind(np.asarray(x)) == "integer":
        return False  # JSON takes one of them
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return x.shape == y.shape and np.array_equal(np.isnan(x), np.isnan(y))


def same_numbers(a: Any, b: Any) -> bool:
    """Every number equal, taken to the dtype of the first."""
    right = {} if isinstance(a, Raised) else dict(named_arrays(b))
    return isinstance(a, Raised) or all(
        np.array_equal(x, np.asarray(right[name]).astype(np.asarray(x).dtype), equal_nan=is_float(x))
        for name, x in named_arrays(a)
        if is_number(x)
    )


def within(got: Any, allowed: Any) -> bool:
    """Every number within the bound of the formula's; integers and booleans equal."""
    if isinstance(got, Raised):
        return True
    expected = dict(named_arrays(allowed))
    return all(within_leaf(x, expected[name]) for name, x in named_arrays(got) if is_number(x))


def within_leaf(x: Any, expected: Any) -> bool:
    if not isinstance(expected, Bounded):
        return np.array_equal(x, np.asarray(expected), equal_nan=is_float(x))
    result = bounds.compare(
        np.where(np.isnan(expected.value), expected.value, x), expected.value, expected.bound
    )
    nans = np.isnan(np.asarray(expected.value))
    return not result.silent and bool(result.within or nans.all())


def is_number(x: Any) -> bool:
    return isinstance(x, (bool, int, float, np.generic, np.ndarray)) and np.asarray(x).dtype.kind in "biuf"


def is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.ndim > 0


def kind(x: np.ndarray[Any, Any]) -> str:
    """What a rule may ask of a dtype: which float, and for the others whether they are integers or booleans."""
    return x.dtype.name if x.dtype.kind == "f" else "integer" if x.dtype.kind in "iu" else x.dtype.kind


def is_float(x: Any) -> bool:
    return bool(np.asarray(x).dtype.kind == "f")
