"""Checks of the update gate: each step of the loop is the formula, and the log tells the truth about it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gates.judge import mistakes, scoring
from gates.judge.replay import NAMES, After, Course, Settings, State, replay
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from gates.verdict.finding import Finding, Problem, at_most, no_problems
from reference import bounds, model
from reference.bounds import Agreement, Bounded
from reference.data import make_batch

SMALL = 1e-9  # the chance that a correct start is refused
LOGGED = ("epoch", "tokens", "loss", "grad_norm", "lr")
FIRST = "the first weights"


@dataclass(frozen=True)
class Followed:
    """A run with a checkpoint at every step, and the course that it was told to follow."""

    run: RunDirectory
    course: Course
    val: Sequence[list[int]]
    begun: RunDirectory | None = None
    """Where step 0 is, if it is not in the run itself."""

    def state(self, step: int) -> State:
        begun = self.begun if step == 0 and self.begun else self.run
        return State.read(begun, step)


# Replayed updates


@dataclass(frozen=True)
class Comparison:
    """One update against its replay: what the log says and every tensor, as shares of their bounds."""

    name: str
    log: Mapping[str, Agreement]
    weights: Mapping[str, Agreement]
    moments: Mapping[str, Agreement]
    likeness: str
    """What a wrong update behaves like, in words; "" if it is right, or like nothing we know."""


def compare(followed: Followed, updates: Iterable[int], story: str = "") -> list[Comparison]:
    """Replay these updates, each from the checkpoint before it. `story` says which run it is."""
    return [_compare(followed, update, story) for update in updates]


def _compare(followed: Followed, update: int, story: str) -> Comparison:
    before, left = followed.state(update - 1), followed.state(update)
    expected = replay(followed.course, update, before)
    return judge(followed.course, update, before, left, expected, _line(followed.run, update), story)


def judge(
    course: Course,
    update: int,
    before: State,
    left: State,
    expected: After,
    line: Mapping[str, Any],
    story: str,
) -> Comparison:
    """What an update has left and logged against what it must leave and log."""
    log = {name: _number(line.get(name), expected.log[name], name) for name in LOGGED}
    weights = _tensors("", left.weights, expected.weights)
    moments = _tensors("m.", left.m, expected.m) | _tensors("v.", left.v, expected.v)
    wrong = not all(a.within for a in (*weights.values(), *moments.values()))
    likeness = mistakes.named(course, update, before, left, expected) if wrong else ""
    return Comparison(f"{story}update {update}", log, weights, moments, likeness)


def _line(run: RunDirectory, update: int) -> Mapping[str, Any]:
    """The line of an update, by its place; {} if the log is too short."""
    return run.log[update - 1] if update <= len(run.log) else {}


def _number(said: Any, expected: Bounded, name: str) -> Agreement:
    return bounds.compare(math.nan if said is None else said, expected.value, expected.bound, name)


def _tensors(
    prefix: str, got: Mapping[str, np.ndarray], expected: Mapping[str, Bounded]
) -> dict[str, Agreement]:
    return {
        prefix + name: bounds.compare(got[name], b.value, b.bound, prefix + name)
        for name, b in expected.items()
    }


def log(found: Sequence[Comparison]) -> Finding:
    """Loss, norm, rate, epoch and tokens of each replayed line."""
    return _worst("update/log", [(c, c.log) for c in found], "numbers of the log", "is not what it was")


def moments(found: Sequence[Comparison]) -> Finding:
    """Both moments of every parameter after each replayed update."""
    return _worst("update/moments", [(c, c.moments) for c in found], "moments", "are not the formula's")


def weights(found: Sequence[Comparison]) -> Finding:
    """Every parameter after each replayed update."""
    return _worst("update/weights", [(c, c.weights) for c in found], "weights", "are not the formula's")


def _worst(
    where: str, found: Sequence[tuple[Comparison, Mapping[str, Agreement]]], what: str, wrong: str
) -> Finding:
    """The first update in which something is beyond its bound; if none is, the one with the least room."""
    ratios = [max(a.ratio for a in parts.values()) for _, parts in found]
    beyond = [n for n, ratio in enumerate(ratios) if not ratio <= 1.0]
    at = beyond[0] if beyond else int(np.argmax(ratios))
    comparison, parts = found[at]
    bad = [a for a in parts.values() if not a.within]
    first = bad[0] if bad else max(parts.values(), key=lambda a: a.ratio)
    like = f" (behaves like: {comparison.likeness})" if comparison.likeness else ""
    tensors_of = "" if where == "update/log" else f"{len(bad)} of {len(parts)} tensors, first "
    problem = f"{comparison.name}: {tensors_of}{first.where} {wrong}{like}"
    return Finding(
        where,
        passed=not beyond,
        figure=f"{max(ratios):.2g} of the derived bound, {what} of {len(found)} updates",
        threshold="<= 1",
        margin=f"{1 / max(ratios):.3g}x inside" if 0 < max(ratios) <= 1 else f"{max(ratios):.3g}x",
        problem=problem,
        got=f"{first.got!r}",
        expected=f"{first.expected!r}, give or take {first.bound:.2g}",
    )


# The first weights


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
    x, n, tail = x / sigma, x.size, math.log(2.0 / SMALL)
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


# Whole logs


def schedule(runs: Sequence[tuple[RunDirectory, Settings]]) -> Finding:
    """Every rate in the logs."""
    ratios, worst = [0.0], (0.0, "", 0.0, 0.0)
    for run, settings in runs:
        for update, line in enumerate(run.log, 1):
            rate = settings.rate(update)
            ratio = abs(line["lr"] - rate) / settings.rate_bound
            ratios.append(ratio if ratio == ratio else math.inf)
            if not ratios[-1] <= max(1.0, worst[0]) and worst[0] <= 1.0:
                worst = (ratios[-1], f"update {update}", line["lr"], rate)
    ratio, place, got, expected = worst
    return at_most(
        "update/schedule",
        figure=max(ratios),
        limit=1.0,
        detail=f"times the derived bound, {len(ratios) - 1} rates",
        problem=f"lr of {place} is {got!r}, not {expected!r}",
    )


def data(runs: Sequence[tuple[RunDirectory, Course]]) -> Finding:
    """Step, epoch and tokens of every line of the logs."""
    problems, lines = [], 0
    for run, course in runs:
        finished, steps = (run.path / "results.json").exists(), course.settings.steps
        if len(run.log) > steps or (finished and len(run.log) < steps):
            problems.append(Problem("lines of the log", len(run.log), course.settings.steps))
        for update, (line, (epoch, batch)) in enumerate(zip(run.log, course.batches, strict=False), 1):
            expected = {"step": update, "epoch": epoch, "tokens": int(batch[2].sum())}
            said = {name: line.get(name) for name in expected}
            lines += 1
            if said != expected:
                problems.append(Problem(f"update {update}: {_first(said, expected)}", said, expected))
    return no_problems("update/data", problems, of=f"{lines} lines")


def _first(said: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    return next(name for name in expected if said[name] != expected[name])


def evaluation(followed: Followed, steps: Sequence[int]) -> Finding:
    """The validation losses in the log are those of the weights of their steps."""
    tokens, target, real, key_mask = make_batch(list(followed.val))
    worst, problem = Agreement(0.0), ""
    for step in steps:
        state, line = followed.state(step), _line(followed.run, step)
        arguments = (state.weights, tokens, target, real, key_mask)
        found = bounds.probable(scoring.nll_sum, *arguments, dtype=state.dtype, draws=scoring.DRAWS)
        share = 1.0 / int(real.sum())
        # The bound of a mean: that of the sum, and a rounding of the quotient.
        expected = Bounded(found.value * share, (found.bound + abs(found.value) * 2.0**-51) * share)
        agreement = _number(line.get("val_loss"), expected, "val_loss")
        if agreement.ratio > worst.ratio or not agreement.ratio <= 1.0:
            worst, problem = agreement, f"step {step}: val_loss is not that of the checkpoint's weights"
        if not agreement.within:
            break
    return Finding(
        "update/evaluation",
        passed=worst.within,
        figure=f"{worst.ratio:.2g} of the derived bound, {len(steps)} evaluations of {int(real.sum())} tokens",
        threshold="<= 1",
        margin=f"{1 / worst.ratio:.3g}x inside" if 0 < worst.ratio <= 1 else f"{worst.ratio:.3g}x",
        problem=problem,
        got=repr(worst.got),
        expected=f"{worst.expected!r}, give or take {worst.bound:.2g}",
    )


def cadence(run: RunDirectory, settings: Settings) -> Finding:
    """A finished run: what was evaluated and saved when; and the best step is the best of them."""
    last = len(run.log)
    scores = {line["step"]: line["val_loss"] for line in run.log if "val_loss" in line}
    saved = [step for step in run.checkpoints() if step]
    facts = {
        "evaluations, by step": (list(scores), _due(settings.eval_every, last)),
        "checkpoints, by step": (saved, _due(settings.checkpoint_every, last)),
        "results.json: best_step": (
            run.json("results.json").get("best_step"),
            min(scores, key=lambda step: scores[step], default=None),
        ),
    }
    problems = [Problem(name, got, expected) for name, (got, expected) in facts.items() if got != expected]
    of = f"{len(scores)} evaluations, {len(saved)} checkpoints"
    return no_problems("update/cadence", problems, of=of)


def _due(every: int, last: int) -> list[int]:
    return sorted({*range(every, last + 1, every), last})


def finite(finished: Finished, run: RunDirectory) -> Finding:
    """A run whose numbers overflow: nothing that is not finite was kept, neither in a file nor in a line.

    It may end with an error, or skip the updates that it cannot make; it may not go on as if nothing had happened.
    """
    problems = []
    for step, folder in run.checkpoints().items():
        for file in ("weights.safetensors", "optimizer.safetensors"):
            bad = [name for name, x in run.tensors(f"{folder}/{file}").items() if not np.isfinite(x).all()]
            if bad:
                problems.append(
                    Problem(f"checkpoint {step}: {bad[0]} is not finite", "NaN or infinity", "numbers")
                )
    for line in run.log if run.logged_steps() else []:
        bad = [name for name in LOGGED if not math.isfinite(line.get(name, 0.0))]
        if bad:
            problems.append(
                Problem(f"line {line.get('step')}: {bad[0]} is not finite", line[bad[0]], "a number")
            )
    of = f"status {finished.status}, {run.logged_steps()} lines, {len(run.checkpoints())} checkpoints"
    return no_problems("update/finite", problems, of=of)
