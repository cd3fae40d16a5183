"""Which known mistake a failure looks like: the calls of the failing example are repeated on every mutant.

A mutant is named when its answers match the subject's in every call of the failing example, exactly or within the
error bound of the mutant's own formula, and match them better than the oracle's do. Of several such mutants, those are
named that also match best in the examples that passed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.mutants import MUTANTS, Mutant
from fixtures.subjects import reference
from fixtures.temporary_folder import temporary_folder
from honestloop.conventions import Conventions
from honestloop.guard import OBJECTS, Call, Guard, Misbehaviour, Raised, arrays_in, copied
from properties.loop_helpers import FIELDS
from reference import bounds
from reference.bounds import Bounded, named_arrays
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


class Match(IntEnum):
    """How well a function's answers match the subject's in the same calls."""

    NONE = 0
    WITHIN_BOUND = 1
    EXACT = 2


def diagnose(
    example: Sequence[Call], passed: Sequence[Sequence[Call]], conventions: Conventions
) -> tuple[Mutant, ...]:
    """The mutants that match the calls of the failing example better than the oracle does.

    `passed` holds the calls of examples that passed. Empty when no mutant matches.
    """
    found: list[Mutant] = []
    for function in dict.fromkeys(call.function for call in example):
        calls = calls_of(function, example)
        oracle = Candidate.oracle(function, conventions)
        required = oracle.match(calls) + 1
        if required > Match.EXACT:
            continue
        suspects = [Candidate.mutant(m, conventions) for m in MUTANTS.values() if m.function == function]
        plausible = prefilter(oracle, calls)
        matching = [
            suspect
            for suspect in suspects
            if suspect.wrong and suspect.match(calls, required, plausible) >= required
        ]
        if len(matching) > 1:
            others = [others for calls in passed if (others := calls_of(function, calls))]
            scores = [sum(suspect.match(calls) for calls in others) for suspect in matching]
            matching = [s for s, score in zip(matching, scores, strict=True) if score == max(scores)]
        found += [MUTANTS[suspect.name] for suspect in matching]
    return tuple(found)


def calls_of(function: str, calls: Sequence[Call]) -> list[Call]:
    """The calls of one function of the protocol, and of the objects that it returned."""
    return [call for call in calls if call.function == function]


@dataclass(frozen=True)
class Candidate:
    """A function that may compute what the subject computes."""

    name: str
    function: Function
    formula: Function
    """The same function without casts, to be run on arrays that track rounding errors."""
    conventions: Conventions
    wrong: bool
    """Whether it is a mistake under these conventions."""

    @classmethod
    def oracle(cls, function: str, conventions: Conventions) -> "Candidate":
        """The reference subject's own function."""
        correct = reference.functions(conventions)[function]
        return cls(function, correct, correct, conventions, False)

    @classmethod
    def mutant(cls, mutant: Mutant, conventions: Conventions) -> "Candidate":
        """The function of a mutant, otherwise following these conventions."""
        wrong = mutant.is_wrong_under(conventions)
        return cls(mutant.id, mutant.under(conventions), mutant.raw_under(conventions), conventions, wrong)

    def match(
        self, calls: Sequence[Call], required: int = Match.WITHIN_BOUND, plausible: Any = None
    ) -> Match:
        """How well its answers match the subject's in all these calls; NONE as soon as less than `required`.

        `plausible`, from `prefilter`, says whether an answer is near enough for the bound to be computed.
        """
        with temporary_folder() as folder, np.errstate(all="ignore"):
            exact = True
            for place, answer in enumerate(replay(self.function, calls, Path(folder))):
                call = calls[place]
                if not same_structure(call, answer):
                    return Match.NONE
                exact = exact and same_numbers(graded(call), answer.result)
                if exact:
                    continue
                if required > Match.WITHIN_BOUND or (plausible and not plausible(place, answer.result)):
                    return Match.NONE
            if exact:
                return Match.EXACT
            try:
                expected = bounded(self.formula, calls, self.conventions)
                inside = all(within(graded(c), x) for c, x in zip(calls, expected, strict=True))
            except Exception:  # a formula that cannot run on error-tracking arrays has no bound
                inside = False
            return Match.WITHIN_BOUND if inside else Match.NONE


def prefilter(oracle: Candidate, calls: Sequence[Call]) -> Callable[[int, Any], bool] | None:
    """plausible(place, answer): whether an answer is near enough to the subject's for its bound to be computed.

    Bounds take long to compute. A mutant works on numbers of about the oracle's size, so that its bound is about the
    oracle's: `PREFILTER_FACTOR` times that is safe. None if the oracle has no bound for these calls.
    """
    try:
        with np.errstate(all="ignore"):
            bound = list(bounded(oracle.formula, calls, oracle.conventions))
    except Exception:  # the oracle cannot run on error-tracking arrays with these arguments
        return None

    def plausible(place: int, answer: Any) -> bool:
        allowed = dict(named_arrays(bound[place]))
        others = dict(named_arrays(answer))
        return all(
            within_leaf(x, Bounded(others[name], PREFILTER_FACTOR * allowed[name].bound))
            for name, x in named_arrays(graded(calls[place]))
            if is_number(x) and isinstance(allowed.get(name), Bounded) and name in others
        )

    return plausible


# ---- the calls again


def replay(function: Function, calls: Sequence[Call], folder: Path) -> Iterator[Call]:
    """The same calls of this function and of the objects that it returns; checkpoints are saved to the folder."""
    guard = Guard(TIME_LIMIT)
    guarded = guard.function(calls[0].function, function)
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


def bounded(formula: Function, calls: Sequence[Call], conventions: Conventions) -> Iterator[Any]:
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


def bounded_trainers(formula: Any, calls: Sequence[Call], conventions: Conventions) -> Iterator[Any]:
    """The answers of trainers, with bounds over all their operations so far; their checkpoints stay in memory."""
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
            yield with_bounds(
                getattr(objects[call.target], call.method)(*in_double(call.args), **call.kwargs)
            )


def in_double(tree: Any) -> Any:
    """A structure with its float arrays in float64, which represents every float32 exactly; lists stay lists."""
    if isinstance(tree, np.ndarray):
        return tree.astype(np.float64) if tree.dtype.kind == "f" else tree
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(in_double, tree))
    return {key: in_double(x) for key, x in tree.items()} if isinstance(tree, dict) else tree


# ---- comparing answers


def float_arrays(tree: Any) -> list[np.ndarray[Any, Any]]:
    """The float arrays in a structure of arguments or results."""
    return [x for x in arrays_in(tree) if x.dtype.kind == "f"]


def same_structure(call: Call, again: Call) -> bool:
    """Equal but for the values of numbers: side effects, structure, shapes, dtypes, text; both raised or neither."""
    a, b = call.result, again.result
    if call.effects != again.effects:
        return False
    if isinstance(a, Raised) or isinstance(b, Raised):
        return isinstance(a, Raised) and isinstance(b, Raised)
    left, right = dict(named_arrays(graded(call))), dict(named_arrays(b))
    if call.function == "trainer":  # a record may hold more than the law names, or less
        return left.keys() <= right.keys() and all(same_kind(x, right[name]) for name, x in left.items())
    return left.keys() == right.keys() and all(same_kind(x, right[name]) for name, x in left.items())


def graded(call: Call) -> Any:
    """What a call returned, without what the law does not name: other fields of the records of a trainer."""
    if call.function != "trainer" or call.method not in ("train", "fit") or not isinstance(call.result, list):
        return call.result
    return [
        {name: record[name] for name in FIELDS if name in record} if isinstance(record, dict) else record
        for record in call.result
    ]


def same_kind(x: Any, y: Any) -> bool:
    """Whether two leaves are equal but for the values of numbers: type, shape, places of NaN, text."""
    if not (is_number(x) and is_number(y)):
        return type(x) is type(y) and (not isinstance(x, (str, bytes)) or x == y)
    if is_array(x) and is_array(y) and kind(x) != kind(y):
        return False
    if isinstance(x, np.generic) != isinstance(y, np.generic) and kind(np.asarray(x)) == "integer":
        return False  # json writes Python's integers and refuses NumPy's
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return x.shape == y.shape and np.array_equal(np.isnan(x), np.isnan(y))


def same_numbers(a: Any, b: Any) -> bool:
    """Whether every number is equal after a cast to the dtype of the first."""
    right = {} if isinstance(a, Raised) else dict(named_arrays(b))
    return isinstance(a, Raised) or all(
        np.array_equal(x, np.asarray(right[name]).astype(np.asarray(x).dtype), equal_nan=is_float(x))
        for name, x in named_arrays(a)
        if is_number(x)
    )


def within(got: Any, allowed: Any) -> bool:
    """Whether every float is within its bound; integers and booleans must be equal."""
    if isinstance(got, Raised):
        return True
    expected = dict(named_arrays(allowed))
    return all(within_leaf(x, expected[name]) for name, x in named_arrays(got) if is_number(x))


def within_leaf(x: Any, expected: Any) -> bool:
    """The same for one array or number."""
    if not isinstance(expected, Bounded):
        return np.array_equal(x, np.asarray(expected), equal_nan=is_float(x))
    result = bounds.compare(
        np.where(np.isnan(expected.value), expected.value, x), expected.value, expected.bound
    )
    nans = np.isnan(np.asarray(expected.value))
    return not result.silent and bool(result.within or nans.all())


def is_number(x: Any) -> bool:
    """Whether it is a number, a boolean, or an array of either."""
    return isinstance(x, (bool, int, float, np.generic, np.ndarray)) and np.asarray(x).dtype.kind in "biuf"


def is_array(x: Any) -> bool:
    """Whether it is an array with at least one axis."""
    return isinstance(x, np.ndarray) and x.ndim > 0


def kind(x: np.ndarray[Any, Any]) -> str:
    """The float dtype by name; "integer" for all integer dtypes, whose width no rule asks for; else the kind."""
    return x.dtype.name if x.dtype.kind == "f" else "integer" if x.dtype.kind in "iu" else x.dtype.kind


def is_float(x: Any) -> bool:
    """Whether it is a float or an array of floats."""
    return bool(np.asarray(x).dtype.kind == "f")
