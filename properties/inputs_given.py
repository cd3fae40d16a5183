"""Which kinds of input the properties give to each function, found by recording the calls of a correct subject.

`python -m properties.inputs_given` prints them; coverage_of_inputs.py claims them or says why a kind is left out.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings

from fixtures.handed_over import ReadOnce
from fixtures.subjects import reference
from honestloop.conventions import Conventions
from honestloop.guard import arrays_in
from honestloop.protocol import Subject
from properties.assertions import NotOfferedError
from properties.checks import all_properties

Array = np.ndarray[Any, np.dtype[Any]]
FEW = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LARGER = {
    64: "more than 64",
    128: "more than 128",
    256: "more than 2^8",
    1024: "more than 2^10",
    2**16: "more than 2^16",
}
SIZES = ("size 0", "size 1", *LARGER.values())
LAYOUTS = ("Fortran's order", "a stride", "negative strides", "a part of a buffer", "read-only", "broadcast")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
SEEDS = ("seed 0", "a seed beyond 2^32", "a seed beyond 2^63")
VALUES = ("0", "infinity", "beyond 1e30", "a count beyond 2^16", "a count beyond 2^24")
OTHERS = ("float32 and float64", "all masked", "read once", "the same call twice")
LOOPS = frozenset({"trainer", "own_trainer"})
"""Functions that return a loop, whose methods are in the table as well."""
KINDS = (*SIZES, *LAYOUTS, *INTEGERS, *SEEDS, *VALUES, *OTHERS)
"""Every kind of input that is looked for."""


def sizes_of(sizes: list[int]) -> Iterator[str]:
    """What these lengths are."""
    yield from ("size 0" for _ in range(0 in sizes))
    yield from ("size 1" for _ in range(1 in sizes))
    yield from (name for limit, name in LARGER.items() if max(sizes, default=0) > limit)


def layout_of(x: Array) -> Iterator[str]:
    """How the array lies in memory."""
    if 0 in x.strides and x.size > 1:
        yield "broadcast"
    elif any(s < 0 for s in x.strides):
        yield "negative strides"
    elif x.flags.f_contiguous and not x.flags.c_contiguous:
        yield "Fortran's order"
    elif not x.flags.c_contiguous:
        yield "a stride"
    elif isinstance(x.base, np.ndarray) and x.base.size > x.size:
        yield "a part of a buffer"
    if not x.flags.writeable and 0 not in x.strides:
        yield "read-only"


def numbers_of(name: str, value: Any) -> Iterator[str]:
    """What a plain number is."""
    if name == "seed":
        yield from (
            kind
            for kind, is_it in zip(SEEDS, (value == 0, value >= 2**32, value >= 2**63), strict=True)
            if is_it
        )
    elif isinstance(value, int):
        yield from (
            kind
            for kind, limit in (("a count beyond 2^16", 2**16), ("a count beyond 2^24", 2**24))
            if value > limit
        )
    elif isinstance(value, float):
        yield from (kind for kind, is_it in (("0", value == 0.0), ("infinity", np.isinf(value))) if is_it)


def lengths_of(x: Any) -> list[int]:
    """The lengths of a list of lists."""
    return (
        [len(x), *(len(item) for item in x if isinstance(item, (list, str)))] if isinstance(x, list) else []
    )


def kinds_of(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[str]:
    """The kinds of input that one call is given; `names` are those of its positional arguments."""
    arrays = arrays_in((args, kwargs))
    yield from sizes_of([n for x in arrays for n in x.shape] + [n for x in args for n in lengths_of(x)])
    for x in arrays:
        yield from layout_of(x)
        if x.dtype.kind in "iu":
            yield x.dtype.name
        if x.dtype.kind == "f":
            yield x.dtype.name
            yield from ("beyond 1e30" for _ in range(bool(np.abs(x).max(initial=0.0) > 1e30)))
            yield from ("0" for _ in range(bool(x.size and not x.any())))
        if x.dtype.kind == "b" and x.size and not x.any():
            yield "all masked"
    if any(isinstance(x, ReadOnce) for x in args):
        yield "read once"
    settings = [item for x in args if isinstance(x, dict) for item in x.items()]
    for name, value in [*zip(names, args, strict=False), *kwargs.items(), *settings]:
        yield from numbers_of(name, value)


class Recorder:
    """Functions that note the kinds of their arguments, and compute what the reference subject does."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = defaultdict(set)
        self._last: dict[str, Any] = {}

    def watched(
        self, name: str, function: Callable[..., Any], arguments: tuple[str, ...]
    ) -> Callable[..., Any]:
        """The function, watched."""

        def call(*args: Any, **kwargs: Any) -> Any:
            found = self.found[name]
            found.update(kinds_of(arguments, args, kwargs))
            same = repr((args, sorted(kwargs.items()), [x.tobytes()[:4096] for x in arrays_in(args)]))
            if self._last.get(name) == same:
                found.add("the same call twice")
            self._last[name] = same
            if {"float32", "float64"} <= found:
                found.add("float32 and float64")
            made = function(*args, **kwargs)
            return Watched(self, name, made) if name in LOOPS else made

        return call


class Watched:
    """A trainer whose methods are watched as functions of their own, "trainer.train" for example."""

    def __init__(self, recorder: Recorder, name: str, wrapped: Any) -> None:
        self._recorder, self._name, self._wrapped = recorder, name, wrapped

    def __getattr__(self, member: str) -> Any:
        found = getattr(self._wrapped, member)
        return self._recorder.watched(f"{self._name}.{member}", found, ()) if callable(found) else found


def record(arguments: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """Function, or method of a loop -> the kinds of input that the properties gave to it.

    `arguments` has the names of each function's arguments.
    """
    recorder, conventions = Recorder(), Conventions()
    correct = reference.functions(conventions)
    functions: dict[str, Any] = {
        name: recorder.watched(name, function, arguments[name])
        for name, function in correct.items()
        if name in arguments
    } | {"TRAINER_PARTS": correct["TRAINER_PARTS"]}
    subject = Subject.of("recorder", functions, conventions)
    for prop in all_properties().values():
        for case in prop.cases():
            wanted = {case["name"]} if "name" in case else prop.functions
            if prop.about_presence or not wanted or not wanted <= functions.keys():
                continue
            try:
                prop.runnable(FEW)(subject=subject, **case)
            except NotOfferedError:
                continue
    return {name: found & set(KINDS) for name, found in recorder.found.items()}
