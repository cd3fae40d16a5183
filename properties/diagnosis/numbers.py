"""A number that explains every call: found by solving for it in a probe, then tried as a loop that uses it.

The first update of AdamW from moments of 0 is p - lr g / (|g| + eps), decayed: every constant of it can be solved for.
What is solved carries roundoff; it is taken to a short decimal or a fraction 1 / n (solving.py), and believed only if
the loop with that number is within its bounds in the failing example and in all others.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fixtures.diagnosis_words import Quantity, equals, times
from properties.diagnosis import numbered_loop as loops
from properties.diagnosis.chain import updates
from properties.diagnosis.comparing import PARAMETERS
from properties.diagnosis.numbered_loop import Loop, filled, fixed, scaled
from properties.diagnosis.probes import PLAIN, PROBES
from properties.diagnosis.quantities import COUNT, Compared
from properties.diagnosis.solving import decimals, factors, middle
from reference.training import MATRICES, Trainer

DROPPED = (0.1, 0.2, 0.5)
"""Probabilities of dropout that are tried where another is configured."""
Guess = tuple[str, Loop]
"""What would be said, and the loop of which it is true."""


def guesses(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """Numbers that may explain what is wrong in the probes, in the order of the chain."""
    for link in (
        of_window,
        of_dropout,
        of_loss,
        of_logits,
        of_gradient,
        of_rate,
        of_step,
        of_decay,
        of_limit,
        of_betas,
    ):
        try:
            with np.errstate(all="ignore"):
                solved = list(link(found))
        except (
            KeyError,
            IndexError,
            ValueError,
            TypeError,
        ):  # a probe that raised or was not run solves nothing
            continue
        yield from solved


def of_window(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """Micro-batches of a window."""
    if found["windows"].has(COUNT) or found["one window"].has(COUNT) or found["full"].has(COUNT):
        for factor in (2.0, 3.0, 4.0, 0.5):
            yield times(Quantity.WINDOW, factor), loops.with_window(factor)


def of_dropout(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """The probability of dropout: another where it is 0, or always, or so many times it."""
    if found["full"].has("loss"):
        for p in DROPPED:
            yield equals(Quantity.DROPOUT, p), loops.with_setting(Quantity.DROPOUT, filled(p))
            yield equals(Quantity.DROPOUT, p), loops.with_setting(Quantity.DROPOUT, fixed(p))
    elif found["dropout"].has("loss"):
        for factor in (2.0, 0.5, 0.0):
            change = loops.with_setting(Quantity.DROPOUT, scaled(factor, most=0.9))
            yield times(Quantity.DROPOUT, factor), change
        for p in DROPPED:
            yield equals(Quantity.DROPOUT, p), loops.with_setting(Quantity.DROPOUT, fixed(p))


def of_loss(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """A loss that is so many times the right one."""
    if found["full"].has("loss"):
        got, right = first_record(found["full"], "loss")
        for factor in factors(got / right):
            for loop in loops.with_loss(factor):
                yield times(Quantity.LOSS, factor), loop


def of_logits(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """Logits or inputs that are multiplied by a factor: solved for in the loss, which it changes monotonically only
    in pieces."""
    one = found["full"]
    if not one.has("loss"):
        return
    got, _ = first_record(one, "loss")
    for quantity, variants in ((Quantity.LOGITS, loops.with_logits), (Quantity.INPUTS, loops.with_inputs)):
        for root in roots(lambda c: first_loss(variants(c)[0], one) - got):  # noqa: B023  # used at once
            for factor in factors(root):
                for loop in variants(factor):
                    yield times(quantity, factor), loop


def of_gradient(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """A gradient that is so many times the right one, or turned."""
    if found["full"].has("loss"):
        return
    got, right = first_record(found["full"], "grad_norm")
    sizes = [1.0, *factors(got / right)] if found["full"].has("grad_norm") else [1.0]
    for size in sizes:
        for factor in (size, -size):
            if factor != 1.0:
                for loop in loops.with_gradient(factor):
                    yield times(Quantity.GRADIENT, factor), loop


def of_rate(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """A rate that is so many times the right one: the step is."""
    moved, right, _ = steps(found["step"], PLAIN)
    for factor in factors(middle(moved / right)):
        for loop in loops.with_rate(factor):
            yield times(Quantity.RATE, factor), loop


def of_step(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """The eps with which the first step has its size: g / step - |g|."""
    moved, right, _ = steps(found["step"], PLAIN)
    size = PLAIN["eps"] * np.abs(right) / (1.0 - np.abs(right))
    solved = middle(size / np.abs(moved) - size)
    for value in (*decimals(solved), *((0.0, 1e-16, 1e-12) if abs(solved) < 1e-9 else ())):
        yield equals(Quantity.EPSILON, value), loops.with_setting(Quantity.EPSILON, fixed(value))
        factor = value / PLAIN["eps"]
        for c in factors(factor):
            yield times(Quantity.EPSILON, c), loops.with_setting(Quantity.EPSILON, scaled(c))


def of_decay(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """The decay: how much smaller the matrices are than without it."""
    for name in ("step", "decay"):
        settings = PLAIN | PROBES[name].settings
        ((before, got, right),) = updates(found[name])
        lr, wd = settings["peak"], settings["weight_decay"]
        p, difference = (
            np.concatenate([x[key].reshape(-1).astype(float) for key in MATRICES])
            for x in (before, {key: value_of(right[key]) - got[key] for key in MATRICES})
        )
        solved = wd + middle(difference / (lr * p))
        values = [*decimals(solved), *((0.0,) if abs(solved) < 1e-6 else ())]
        for value in values:
            yield equals(Quantity.DECAY, value), loops.with_setting(Quantity.DECAY, fixed(value))
            if wd:
                for c in (0.0,) if value == 0.0 else factors(value / wd):
                    yield times(Quantity.DECAY, c), loops.with_setting(Quantity.DECAY, scaled(c))


def of_limit(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """The limit of the norm: how much larger the clipped gradient is than it should be."""
    settings = PLAIN | PROBES["clipped"].settings
    moved, right, eps = steps(found["clipped"], settings)
    ratio = middle(eps * moved / (1.0 - np.abs(moved)) / (eps * right / (1.0 - np.abs(right))))
    for factor in factors(ratio):
        yield times(Quantity.LIMIT, factor), loops.with_setting(Quantity.LIMIT, scaled(factor))
        value = factor * settings["max_norm"]
        for limit in decimals(value):
            yield equals(Quantity.LIMIT, limit), loops.with_setting(Quantity.LIMIT, fixed(limit))


def of_betas(found: Mapping[str, Compared]) -> Iterator[Guess]:
    """beta1 and beta2, from the second of two updates with the other beta 0."""
    for quantity, name, power in ((Quantity.BETA1, "first moment", 1), (Quantity.BETA2, "second moment", 2)):
        one = found[name]
        if not one.parameters_wrong:
            continue
        settings = PLAIN | PROBES[name].settings
        (_, _, first, _, second), make = [call.result for call in one.calls[:5]], one.calls[0]
        g1 = gradient_at(make.args[0], settings, one.calls[1].args[0])
        g2 = gradient_at(first, settings, one.calls[3].args[0])
        u = (flat(first) - flat(second)) / settings["peak"]
        if power == 1:  # u (|g2| + eps) = (b g1 + g2) / (1 + b)
            seen = u * (np.abs(g2) + settings["eps"])
            solved = middle((g2 - seen) / (seen - g1))
        else:  # (|g2 / u| - eps)^2 = (b g1^2 + g2^2) / (1 + b)
            seen = (np.abs(g2 / u) - settings["eps"]) ** 2
            solved = middle((g2 * g2 - seen) / (seen - g1 * g1))
        for value in decimals(solved):
            yield equals(quantity, value), loops.with_setting(quantity, fixed(value))


# ---- solving


def first_record(one: Compared, name: str) -> tuple[float, float]:
    """(the subject's, the oracle's) number in the first record of a probe."""
    return float(one.calls[1].result[0][name]), float(value_of(one.expected[1][0][name]))


def steps(one: Compared, settings: Mapping[str, Any]) -> tuple[Any, Any, float]:
    """(the subject's first step, the oracle's, both divided by the rate and of all entries [n] that move; eps)."""
    ((before, got, right),) = updates(one)
    start = flat(before)
    moved, wanted = (start - flat(x) for x in (got, right))
    moves = np.abs(wanted) > 1e-3 * np.max(np.abs(wanted))
    return moved[moves] / settings["peak"], wanted[moves] / settings["peak"], settings["eps"]


def flat(params: Mapping[str, Any]) -> Any:
    """All parameters as one vector."""
    return np.concatenate([np.asarray(value_of(params[n]), np.float64).reshape(-1) for n in PARAMETERS])


def value_of(x: Any) -> Any:
    """The number of a bounded one."""
    return getattr(x, "value", x)


def first_loss(loop: Loop, one: Compared) -> float:
    """The first loss that a loop logs in a probe."""
    params, settings = one.calls[0].args
    micro_batches, accumulate = one.calls[1].args
    return float(loop(params, settings).train(micro_batches[:accumulate], accumulate)[0]["loss"])


def gradient_at(params: Any, settings: Any, micro_batches: Any) -> Any:
    """The gradient of a window at these parameters, as one vector."""
    oracle = Trainer(params, settings)
    return flat(oracle.token_mean(oracle.gather(micro_batches))[1])


def roots(f: Any) -> Iterator[float]:
    """Where f changes its sign, of either sign of its argument, over eight decades of it."""
    grid = np.logspace(-4.0, 4.0, 81)
    for points in (grid, -grid):
        values = [f(x) for x in points]
        for a, b, fa, fb in zip(points[:-1], points[1:], values[:-1], values[1:], strict=True):
            if fa * fb < 0.0:
                yield bisected(f, a, b, fa)


def bisected(f: Any, a: float, b: float, fa: float) -> float:
    """The root of f between a and b."""
    for _ in range(60):
        half = (a + b) / 2.0
        if f(half) * fa > 0.0:
            a = half
        else:
            b = half
    return (a + b) / 2.0
