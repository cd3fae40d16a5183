"""The same for a function by itself: a number of AdamW, of the schedule or of clipping that is not the one passed.

Everything that AdamW computes but the weights is returned, so that each constant follows from one call.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fixtures.diagnosis_words import Quantity, equals, times
from fixtures.subjects import reference
from honestloop.conventions import Conventions
from honestloop.guard import Call, Raised
from properties.diagnosis.candidate import Candidate
from properties.diagnosis.solving import decimals, factors, middle

Guess = tuple[str, Candidate]


def guesses(function: str, calls: Sequence[Call], conventions: Conventions) -> Iterator[Guess]:
    """Numbers that may explain what is wrong in these calls of a function."""
    solve = SOLVE.get(function)
    for call in calls if solve else ():
        if not isinstance(call.result, Raised) and solve:
            with np.errstate(all="ignore"):
                found = list(solve(call, conventions))
            yield from found


def calling(function: str, conventions: Conventions, change: Callable[..., Any], *numbers: Any) -> Candidate:
    """The oracle, called with arguments that `change(kwargs, *numbers)` returns."""
    correct = reference.functions(conventions)[function]
    changed = functools.partial(with_changed, correct, change, numbers)
    return Candidate(function, function, changed, changed, conventions)


def with_changed(correct: Any, change: Any, numbers: Any, *args: Any, **kwargs: Any) -> Any:
    """correct(...), with some keyword arguments changed."""
    return correct(*args, **(kwargs | change(kwargs, *numbers)))


def scaled(kwargs: Any, name: str, factor: float) -> dict[str, Any]:
    """A keyword argument times a factor."""
    return {name: kwargs[name] * factor}


def fixed(_: Any, name: str, value: float) -> dict[str, Any]:
    """A keyword argument replaced."""
    return {name: value}


def scaled_direction(kwargs: Any, factor: float) -> dict[str, Any]:
    """The rate times a factor for the direction, not for the decay."""
    return {"lr": kwargs["lr"] * factor, "weight_decay": kwargs["weight_decay"] / factor}


def of_adamw(call: Call, conventions: Conventions) -> Iterator[Guess]:
    """Rate, decay, eps and betas of one update."""
    p, g, m, v = (np.asarray(x, np.float64) for x in call.args)
    p1, m1, v1 = (np.asarray(x, np.float64) for x in call.result)
    s = call.kwargs
    t, lr, eps, wd = s["t"] + 1 - int(conventions.first_step), s["lr"], s["eps"], s["weight_decay"]
    make = functools.partial(calling, "adamw_step", conventions)
    for quantity, key, solved in (
        (Quantity.BETA1, "beta1", (m1 - g) / (m - g)),
        (Quantity.BETA2, "beta2", (v1 - g * g) / (v - g * g)),
    ):
        for value in numbers(solved):
            if value != s[key]:
                yield equals(quantity, value), make(fixed, key, value)
    first = m1 / (1.0 - s["beta1"] ** t)
    root = np.sqrt(v1 / (1.0 - s["beta2"] ** t))
    d = first / (root + eps)
    for factor in ratios((p - p1) / (lr * (wd * p + d))):
        yield times(Quantity.RATE, factor), make(scaled, "lr", factor)
    for factor in ratios((p * (1.0 - lr * wd) - p1) / (lr * d)):
        yield times(Quantity.RATE, factor), make(scaled_direction, factor)
    decay = (p - lr * d - p1) / (lr * p)
    for value in numbers(decay):
        yield equals(Quantity.DECAY, value), make(fixed, "weight_decay", value)
    if wd:
        for factor in ratios(decay / wd):
            yield times(Quantity.DECAY, factor), make(scaled, "weight_decay", factor)
    own = first * lr / (p * (1.0 - lr * wd) - p1) - root
    for value in numbers(own):
        yield equals(Quantity.EPSILON, value), make(fixed, "eps", value)
    for factor in ratios(own / eps):
        yield times(Quantity.EPSILON, factor), make(scaled, "eps", factor)


def of_rate(call: Call, conventions: Conventions) -> Iterator[Guess]:
    """A rate that is so many times the schedule's."""
    correct = reference.functions(conventions)["learning_rate"]
    right = float(correct(*call.args, **call.kwargs))
    for factor in factors(float(call.result) / right) if right else ():

        def times_factor(*args: Any, factor: float = factor, **kwargs: Any) -> Any:
            return factor * correct(*args, **kwargs)

        made = Candidate("learning_rate", "learning_rate", times_factor, times_factor, conventions)
        yield times(Quantity.RATE, factor), made


def of_limit(call: Call, conventions: Conventions) -> Iterator[Guess]:
    """A limit of the norm that is so many times the one passed: the norm that is left."""
    correct = reference.functions(conventions)["clip_by_global_norm"]
    limit = call.args[1]
    left = np.sqrt(sum(float((np.asarray(x, np.float64) ** 2).sum()) for x in call.result[0]))
    for factor in factors(left / limit) if limit else ():

        def other_limit(grads: Any, max_norm: Any, factor: float = factor) -> Any:
            return correct(grads, factor * max_norm)

        made = Candidate("clip_by_global_norm", "clip_by_global_norm", other_limit, other_limit, conventions)
        yield times(Quantity.LIMIT, factor), made


def numbers(solved: Any) -> list[float]:
    """What the entries of an array may stand for, taken together."""
    try:
        return decimals(middle(np.asarray(solved)))
    except ValueError:
        return []


def ratios(solved: Any) -> list[float]:
    """The same for factors."""
    return [x for x in numbers(solved) if x in factors(x)]


SOLVE: dict[str, Callable[[Call, Conventions], Iterator[Guess]]] = {
    "adamw_step": of_adamw,
    "learning_rate": of_rate,
    "clip_by_global_norm": of_limit,
}
"""Function -> the guesses that one call of it allows."""
