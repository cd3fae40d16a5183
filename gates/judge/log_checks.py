"""Checks of the update gate on whole logs: rates, batches, evaluations, cadence, and nothing that is not finite."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gates.judge import scoring
from gates.judge.run_record import Settings, TrainingPlan, logged, state
from gates.judge.within_bounds import LOGGED, number
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from gates.subject.stepwise_runs import ConfiguredRun
from gates.verdict.finding import Finding, Problem, all_equal, at_most, no_problems
from reference import bounds
from reference.bounds import Agreement, Bounded
from reference.data import make_batch


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


def data(runs: Sequence[tuple[RunDirectory, TrainingPlan]]) -> Finding:
    """Step, epoch and tokens of every line of the logs."""
    problems, lines = [], 0
    for run, plan in runs:
        finished, steps = (run.path / "results.json").exists(), plan.settings.steps
        if len(run.log) > steps or (finished and len(run.log) < steps):
            problems.append(Problem("lines of the log", len(run.log), plan.settings.steps))
        for update, (line, (epoch, batch)) in enumerate(zip(run.log, plan.batches, strict=False), 1):
            expected = {"step": update, "epoch": epoch, "tokens": int(batch[2].sum())}
            said = {name: line.get(name) for name in expected}
            lines += 1
            if said != expected:
                problems.append(Problem(f"update {update}: {_first(said, expected)}", said, expected))
    return no_problems("update/data", problems, of=f"{lines} lines")


def _first(said: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    return next(name for name in expected if said[name] != expected[name])


def evaluation(followed: ConfiguredRun, steps: Sequence[int]) -> Finding:
    """The validation losses in the log are those of the weights of their steps."""
    tokens, target, real, key_mask = make_batch(list(TrainingPlan.of(followed).val))
    worst, problem = Agreement(0.0), ""
    for step in steps:
        left, line = state(followed, step), logged(followed.run, step)
        arguments = (left.weights, tokens, target, real, key_mask)
        found = bounds.probable(scoring.nll_sum, *arguments, dtype=left.dtype, draws=scoring.DRAWS)
        share = 1.0 / int(real.sum())
        # The bound of a mean: that of the sum, and a rounding of the quotient.
        expected = Bounded(found.value * share, (found.bound + abs(found.value) * 2.0**-51) * share)
        agreement = number(line.get("val_loss"), expected, "val_loss")
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
        share=worst.ratio,
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
    return all_equal("update/cadence", facts, of=f"{len(scores)} evaluations, {len(saved)} checkpoints")


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
