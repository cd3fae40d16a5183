"""Drawn updates of the judged run, made again: each has the run's own line, and its tensors are judged."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gates.judge.audited_update import AuditedUpdate, audit
from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.judge.recorded_update import update_of
from gates.subject import audit_draw
from gates.subject.recorded_directory import RecordedDirectory, Snapshot
from gates.subject.recorded_runs import MadeAgain
from gates.verdict.finding import Finding, Problem, no_problems


def own_line(run: RecordedDirectory, again: MadeAgain) -> Finding:
    """Every line that was written again is the run's own, but for the fields that may differ; so are the tensors."""
    free = fields_that_may_differ(run)
    problems, lines = list[Problem](), 0
    for update in again.drawn:
        made, since = again.runs[update].by_step, again.since[update]
        for step in range(since + 1, update + 1):
            lines += 1
            problems += _other_fields(made.get(step, {}), run.by_step.get(step, {}), step, free)
        if update in run.checkpoints() and update in again.runs[update].checkpoints():
            problems += _other_tensors(again.runs[update].snapshot(update), run.snapshot(update), update)
    of = f"{len(again.drawn)} drawn updates, {lines} lines"
    if again.in_short:
        of += f"; {len(again.in_short)} more are judged in the short run alone"
    return no_problems("record/own_line", problems, of=of)


def fields_that_may_differ(run: RecordedDirectory) -> set[str]:
    """Fields of the log that are declared to differ between equal runs."""
    named = [one.partition(":") for one in run.layout.may_differ]
    return {field for file, _, field in named if file == run.layout.log and field}


def _other_fields(
    got: Mapping[str, Any], own: Mapping[str, Any], step: int, free: set[str]
) -> Iterator[Problem]:
    names = [name for name in {**own, **got} if name not in free]
    for name in names:
        if repr(got.get(name)) != repr(own.get(name)):
            what = f"update {step} made again: {name} is not that of the run's own line"
            yield Problem(what, got.get(name), own.get(name))
            return


def _other_tensors(got: Snapshot, own: Snapshot, step: int) -> Iterator[Problem]:
    for kind in "pmv":
        a, b = getattr(got, kind), getattr(own, kind)
        for name in sorted(a.keys() | b.keys()):
            if name not in a or name not in b or a[name].tobytes() != b[name].tobytes():
                what = f"update {step} made again: {kind} of {name} is not that of the run's own checkpoint"
                yield Problem(what, "other bytes", "the same")
                return


def audited_again(declared: DeclaredOptimizer, again: MadeAgain) -> list[AuditedUpdate]:
    """The drawn updates that have a checkpoint on both sides (the first one has, if step 0 is saved)."""
    found = []
    for update in again.drawn:
        run = again.runs[update]
        if {update - 1, update} <= run.checkpoints().keys():
            found.append(audit(declared, update_of(run, update, story="made again, ")))
    return found


def chance(steps: int, checkpoints: Sequence[int], special: Sequence[int]) -> str:
    """How likely it is that a mistake of some length is seen, in words."""
    seen = {
        length: audit_draw.mean_chance_of_seeing(length, steps, checkpoints, special)
        for length in sorted({1, max(1, steps // 10), max(1, steps // 4)})
    }
    told = ", ".join(f"{length}: {share:.0%}" for length, share in seen.items())
    return f"chance that a mistake of so many updates is among those drawn: {told}"
