"""Which mistake a failure looks like: the calls of the failing example are made again on mutants.

A mutant is named when it answers every call of the failing example as the subject did, within the error bound of the
mutant's own formula, while the oracle does not. If several do, those remain that explain the examples that passed, too.
"""

import inspect
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.conventions import Conventions
from fixtures.guard import OBJECTS, Call, Raised, copied
from fixtures.mutants import MUTANTS, Mutant
from fixtures.subjects import reference
from reference import bounds
from reference.arithmetic import unit_roundoff
from reference.bounds import Bounded, named_arrays
from reference.running_error import Tracked

NAMED = 3
"""Most mutants named for one failure."""
DEEP = frozenset({"forward", "loss_and_gradients"})
"""Functions whose worst-case bound says nothing; the probable one is used."""


def diagnose(
    example: Sequence[Call], passed: Sequence[Sequence[Call]], conventions: Conventions
) -> tuple[Mutant, ...]:
    """The mutants that behave as the subject did; none if the oracle does, too."""
    found: list[Mutant] = []
    for function in dict.fromkeys(call.function for call in example):
        calls = of(function, example)
        if explains(reference.functions(conventions)[function], calls, conventions):
            continue
        others = [of(function, calls) for calls in passed]
        matching = [
            mutant
            for mutant in MUTANTS.values()
            if mutant.function == function
            and mutant.is_wrong_under(conventions)
            and explains(written(mutant, conventions), calls, conventions)
        ]
        if len(matching) > 1:
            score = {m.id: agreement(m, others, conventions) for m in matching}
            best = max(score.values())
            matching = [m for m in matching if score[m.id] == best]
        found += matching
    return tuple(found[:NAMED])


def described(mutant: Mutant) -> str:
    """The words after "behaves like: "."""
    return f"{mutant.mistake} (mutant {'; '.join(filter(None, (mutant.id, mutant.source)))})"


def of(function: str, calls: Sequence[Call]) -> list[Call]:
    return [call for call in calls if call.function == function]


def written(mutant: Mutant, conventions: Conventions) -> Callable[..., Any]:
    """The mutant's formula: results are not cast, so that watched arrays pass through."""
    function = mutant.written
    if next(iter(inspect.signature(function).parameters), "") == "correct":
        return partial(function, reference.functions(conventions)[mutant.function])
    return function


def agreement(mutant: Mutant, examples: Sequence[Sequence[Call]], conventions: Conventions) -> int:
    """In how many of the examples the mutant answers as the subject did."""
    formula = written(mutant, conventions)
    return sum(explains(formula, calls, conventions) for calls in examples)


def explains(formula: Callable[..., Any], calls: Sequence[Call], conventions: Conventions) -> bool:
    """Whether the formula answers all these calls as the subject did."""
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        try:
            plain = replay(formula, calls, Path(folder) / "plain")
            pairs = list(zip(calls, plain, strict=True))
            if not all(alike(call.result, answer) for call, answer in pairs):
                return False
            if all(same_numbers(call.result, answer) for call, answer in pairs):
                return True
            expected = bounded(formula, calls, conventions, Path(folder) / "bounded")
            return all(within(call.result, allowed) for call, allowed in zip(calls, expected, strict=True))
        except Exception:  # a formula that cannot be run on these calls does not explain them
            return False


# ---- the calls again


def replay(
    function: Callable[..., Any], calls: Sequence[Call], folder: Path, watch: Any = copied
) -> list[Any]:
    """What the function, or the methods of the objects it makes, answer; checkpoints go to the folder."""
    objects: dict[int | None, Any] = {}
    paths: dict[str, str] = {}
    answers: list[Any] = []
    for call in calls:
        args = call.args
        if call.method in ("save", "load"):
            folder.mkdir(exist_ok=True)
            args = (paths.setdefault(str(args[0]), str(folder / str(len(paths)))),)
        target = function if call.method is None else getattr(objects[call.target], call.method)
        try:
            answer = target(*watch(args), **watch(call.kwargs))
        except Exception as error:
            answer = Raised(type(error).__name__, str(error))
        if call.function in OBJECTS and call.method is None and not isinstance(answer, Raised):
            objects[call.target], answer = answer, None
        answers.append(answer)
    return answers


def bounded(
    formula: Callable[..., Any], calls: Sequence[Call], conventions: Conventions, folder: Path
) -> Iterator[Any]:
    """The formula's answers with its error bounds, one a call."""
    dtype = next((x.dtype for c in calls for x in float_arrays((c.args, c.kwargs))), np.dtype(np.float64))
    if calls[0].function in OBJECTS:
        unit = unit_roundoff(dtype)
        answers = replay(
            formula,
            calls,
            folder,
            lambda x: bounds.observed(in_double(x), Tracked, unit, conventions.scalars),
        )
        yield from (bounds.map_arrays(of_watched, answer) for answer in answers)
        return
    for call in calls:
        args, kwargs = in_double(call.args), in_double(call.kwargs)
        if call.function in DEEP:
            yield bounds.probable(formula, *args, dtype=dtype, draws=3, **kwargs)
        else:
            yield bounds.worst_case(formula, *args, dtype=dtype, scalars=conventions.scalars, **kwargs)


def of_watched(x: Any) -> Any:
    """A watched number with its bound; anything else is exact."""
    return Bounded(x.value, bounds.allowed(x)) if isinstance(x, Tracked) else x


def in_double(tree: Any) -> Any:
    """Float arrays in double precision, which holds what either precision holds; lists stay lists."""
    if isinstance(tree, np.ndarray):
        return tree.astype(np.float64) if tree.dtype.kind == "f" else tree
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(in_double, tree))
    return {key: in_double(x) for key, x in tree.items()} if isinstance(tree, dict) else tree


# ---- comparing answers


def float_arrays(tree: Any) -> list[np.ndarray[Any, Any]]:
    return [x for _, x in named_arrays(tree) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]


def alike(a: Any, b: Any) -> bool:
    """Equal but for the last digits of numbers: structure, shapes, text, places of NaN; both raised or neither."""
    if isinstance(a, Raised) or isinstance(b, Raised):
        return isinstance(a, Raised) and isinstance(b, Raised)
    left, right = dict(named_arrays(a)), dict(named_arrays(b))
    return left.keys() == right.keys() and all(alike_leaf(x, right[name]) for name, x in left.items())


def alike_leaf(x: Any, y: Any) -> bool:
    if not (is_number(x) and is_number(y)):
        return type(x) is type(y) and (not isinstance(x, (str, bytes)) or x == y)
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


def is_float(x: Any) -> bool:
    return bool(np.asarray(x).dtype.kind == "f")
