"""A run of level 2 as a whole: what it declares, the rates of its log, when it evaluated and saved, and nothing that is
not finite."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gates.judge.declared_optimizer import OWN, DeclaredOptimizer, disagreements
from gates.subject.recorded_directory import RecordedDirectory
from gates.verdict.finding import Finding, Problem, at_most, no_problems
from honestloop.conventions import LEGAL
from honestloop.description import Description
from reference import schedule as schedules


def declared(description: Description, run: RecordedDirectory, told: Mapping[str, Any]) -> Finding:
    """The manifest says what the description says, and what the run was told."""
    problems = disagreements(description, run.config, told)
    own = run.config.get("optimizer", {})
    of = f"{len(own) if isinstance(own, dict) else 0} settings of the optimizer"
    return no_problems("record/declared", problems, of=of)


def schedule(optimizer: DeclaredOptimizer, logs: Sequence[Sequence[Mapping[str, Any]]]) -> Finding:
    """Every rate in the logs is that of the declared table.

    A skipped update may tick (PyTorch's schedulers do unless told not to) or not (Hugging Face's Trainer): the table is
    read either way, the whole log the same way. Of a schedule of one's own only the range is known.
    """
    if optimizer.schedule == OWN:
        return _within_range(optimizer, logs)
    worst: tuple[float, str, Any, Any] = (0.0, "", "", "")
    for log in logs:
        readings = [_furthest(optimizer, log, ticks=ticks) for ticks in (True, False)]
        found = min(readings, key=lambda reading: reading[0])
        if not found[0] <= worst[0]:
            worst = found
    ratio, place, got, due = worst
    like = _behaves_like(optimizer, logs) if not ratio <= 1.0 else ""
    finding = at_most(
        "record/schedule",
        figure=ratio,
        limit=1.0,
        detail=f"times the derived bound, {sum(map(len, logs))} rates of the schedule {optimizer.schedule!r}",
        problem=f"lr of {place} is not that of the schedule {optimizer.schedule!r}" + like,
    )
    return (
        finding if finding.passed else Finding(**{**vars(finding), "got": repr(got), "expected": repr(due)})
    )


def _furthest(
    optimizer: DeclaredOptimizer, log: Sequence[Mapping[str, Any]], *, ticks: bool
) -> tuple[float, str, Any, Any]:
    """(share of the bound, place, got, expected) of the first rate that is off, or of the one that is furthest."""
    worst: tuple[float, str, Any, Any] = (0.0, "", "", "")
    made = 0
    for number, line in enumerate(log):
        due, got = optimizer.rate(number if ticks else made), line.get("lr")
        made += line.get("skipped") is not True
        place = f"step {line.get('step')}"
        if due is None or not isinstance(got, int | float):
            return math.inf, place, got, due if due is not None else "no update beyond the schedule's horizon"
        ratio = abs(float(got) - due) / max(optimizer.rate_bound, 1e-300)
        if not ratio <= 1.0:
            return ratio, place, got, due
        if ratio >= worst[0]:
            worst = ratio, place, got, due
    return worst


def _behaves_like(optimizer: DeclaredOptimizer, logs: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """The table that the rates do follow, in words; "" if there is none."""
    rates = [(number, float(line.get("lr", math.nan))) for log in logs for number, line in enumerate(log)]
    for shift, says in ((0, ""), (1, " of the update after"), (-1, " of the update before")):
        for name in LEGAL["schedule"]:
            shape = {"warmup": optimizer.warmup, "total": optimizer.total, "schedule": name}
            ends = {"peak": optimizer.peak, "floor": optimizer.floor}
            if all(
                step + shift < 0
                or (
                    schedules.defined(step + shift, **shape)  # type: ignore[arg-type]
                    and abs(schedules.learning_rate(step + shift, **ends, **shape) - lr)  # type: ignore[arg-type]
                    <= optimizer.rate_bound
                )
                for step, lr in rates
            ):
                return f" (behaves like: the rate{says} of the schedule {name!r})"
    return ""


def _within_range(optimizer: DeclaredOptimizer, logs: Sequence[Sequence[Mapping[str, Any]]]) -> Finding:
    rates = [(line.get("step"), line.get("lr")) for log in logs for line in log]
    slack = optimizer.rate_bound
    problems = [
        Problem(f"lr of step {step} is out of range", lr, f"0 to {optimizer.peak!r}")
        for step, lr in rates
        if not (isinstance(lr, int | float) and -slack <= lr <= optimizer.peak + slack)
    ]
    of = f"{len(rates)} rates of a schedule of its own, judged by its range and by what was used alone"
    return no_problems("record/schedule", problems, of=of)


def cadence(run: RecordedDirectory, checkpoint_every: int | None) -> Finding:
    """What was due was evaluated and saved: every so many updates, and a checkpoint after the last.

    A checkpoint of step 0 and an evaluation at the beginning or the end may be there besides. `checkpoint_every`: what
    the run was told; None if it could not be told, and its configuration counts.
    """
    last, config = len(run.log), run.config
    saved = set(run.checkpoints())
    scored = {line["step"] for line in run.log if line.get("val_loss") is not None}
    every = checkpoint_every or _natural(config.get("checkpoint_every"))
    problems = list(_cadence("checkpoints", saved, every, last, extra={0, last}, last_is_due=True))
    if (often := _natural(config.get("eval_every"))) is not None:
        problems += _cadence("evaluations", scored, often, last, extra={0, 1, last}, last_is_due=False)
    of = f"{len(scored)} evaluations, {len(saved)} checkpoints of {last} updates"
    return no_problems("record/cadence", problems, of=of)


def _cadence(
    what: str, found: set[int], every: int | None, last: int, *, extra: set[int], last_is_due: bool
) -> Iterator[Problem]:
    due = set(range(every, last + 1, every)) if every else set()
    due |= {last} if last_is_due and last else set()
    if missing := sorted(due - found):
        yield Problem(f"{what}: there is none of step {missing[0]}", sorted(found), sorted(due))
    if every and (more := sorted(found - due - extra)):
        yield Problem(f"{what}: one of step {more[0]} is not due", sorted(found), sorted(due))


def _natural(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def finite(runs: Sequence[RecordedDirectory]) -> Finding:
    """Nothing that is not finite is kept, neither in a tensor of a checkpoint nor in a line of a log."""
    problems, tensors, lines = [], 0, 0
    for run in runs:
        for line in run.log:
            lines += 1
            problems += [
                Problem(
                    f"{run.layout.log}: step {line.get('step')}: {name} is not finite",
                    value,
                    "a number, or null",
                )
                for name, value in line.items()
                if isinstance(value, float) and not math.isfinite(value)
            ]
        for step in run.checkpoints():
            for file in dict.fromkeys((run.layout.weights, run.layout.optimizer)):
                for name, x in run.tensors(step, file).items():
                    tensors += 1
                    if x.dtype.kind == "f" and not np.isfinite(x).all():
                        what = f"checkpoint {step}: {file}: {name} is not finite"
                        problems.append(Problem(what, "NaN or infinity", "numbers"))
    return no_problems("record/finite", problems, of=f"{tensors} tensors, {lines} lines")
