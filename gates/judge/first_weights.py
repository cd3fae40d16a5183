"""The check of the update gate on the first weights: drawn by their law, each tensor for itself, from the seed."""

import math

import numpy as np

from gates.judge import scoring
from gates.judge.run_record import NAMES, State
from gates.subject.run_directory import RunDirectory
from gates.verdict.finding import Finding, Problem, no_problems
from reference import model

FALSE_REFUSAL = 1e-9  # the chance that a correct start is refused
FIRST = "the first weights"


def init(begun: RunDirectory, other: RunDirectory) -> Finding:
    """Matrices look drawn from N(0, 0.02), each for itself, and not as for another seed; the rest is exact.

    `begun` has a checkpoint of step 0, `other`, with another seed, one of an early step.
    """
    return start(State.read(begun, 0), State.read(other, min(other.checkpoints(), default=0)))


def start(found: State, foreign: State) -> Finding:
    """The same for states: `foreign` is of another seed."""
    problems: list[Problem | None] = [p for name in NAMES for p in _law(name, found.weights[name])]
    matrices = [name for name in NAMES if model.initial_law(name) == "normal"]
    for number, name in enumerate(matrices):
        same = [x for x in matrices[:number] if found.weights[x].size == found.weights[name].size]
        problems += [_related(name, found.weights[name], x, found.weights[x]) for x in same]
        problems.append(_related(name, found.weights[name], f"{name} of another seed", foreign.weights[name]))
    moved = [m for m in (found.m, found.v) for name in NAMES if m[name].any()]
    if moved:
        problems.append(Problem("moments before the first update", "not zero", "zero"))
    wrong = [p for p in problems if p]
    return no_problems("update/init", wrong, of=f"{model.parameter_count(scoring.CONFIG):,} numbers")


def _law(name: str, x: np.ndarray) -> list[Problem]:
    law, sigma = model.initial_law(name), model.INITIAL_DEVIATION
    if law != "normal":
        value = float(law == "ones")
        return [] if (x == value).all() else [Problem(f"{FIRST}: {name}", "others", f"all {value:g}")]
    # Sum of squares: Laurent, Massart, Annals of Statistics 28, 2000, lemma 1. Mean: exactly normal.
    x, n, tail = x / sigma, x.size, math.log(2.0 / FALSE_REFUSAL)
    low, high = 1.0 - 2.0 * math.sqrt(tail / n), 1.0 + 2.0 * math.sqrt(tail / n) + 2.0 * tail / n
    mean, square = float(x.mean()), float((x * x).mean())
    problems = []
    if not low <= square <= high:
        deviation = f"{sigma} within {math.sqrt(low):.3f} to {math.sqrt(high):.3f} times"
        problems.append(
            Problem(f"{FIRST}: deviation of {name}", f"{sigma * math.sqrt(square):.4g}", deviation)
        )
    if abs(mean) > math.sqrt(2.0 * tail / n):
        problems.append(Problem(f"{FIRST}: mean of {name}", f"{sigma * mean:.3g}", "0"))
    # Kolmogorov-Smirnov by the Dvoretzky-Kiefer-Wolfowitz inequality with Massart's constant, 1990.
    ordered = np.sort(x.reshape(-1))
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in ordered.tolist()])
    distance = float(np.abs(below - (np.arange(n) + 0.5) / n).max()) + 0.5 / n
    if distance > math.sqrt(tail / (2.0 * n)):
        problems.append(Problem(f"{FIRST}: distribution of {name}", f"{distance:.3f} from normal", "normal"))
    return problems


def _related(name: str, x: np.ndarray, other: str, y: np.ndarray) -> Problem | None:
    """Two matrices of their own have a correlation of some 1 / sqrt(n); an update later hardly more."""
    correlation = float(np.corrcoef(x.reshape(-1), y.reshape(-1))[0, 1])
    if abs(correlation) <= 8.0 / math.sqrt(x.size):
        return None
    return Problem(f"{FIRST}: {name} is related to {other}", f"correlation {correlation:.3f}", "none")
