"""Checks of the whole run: what was drawn from it is what the formula gives, and is made again to the byte."""

from collections.abc import Sequence

from gates.judge import update
from gates.judge.replay import replay
from gates.judge.run_record import State, TrainingPlan, logged
from gates.judge.update import Replayed, replay_updates
from gates.subject.drawn_resumes import Audit
from gates.subject.run_directory import RunDirectory
from gates.subject.stepwise_runs import MICRO_BATCHES, REPLAYED_IN_PARTS, ConfiguredRun
from gates.verdict.finding import Finding, Problem, no_problems


def lines(audit: Audit) -> Finding:
    """Every line that a resumed copy wrote is the judged run's own, byte for byte."""
    problems, compared = [], 0
    for at, copy in sorted(audit.resumed.items()):
        own = audit.judged.log_lines
        compared += len(copy.log_lines) - at
        for number, line in enumerate(copy.log_lines):
            if number >= len(own) or line != own[number]:
                problems.append(_other_line(audit.judged, copy, at, number))
                break
    of = f"{compared} lines resumed from {len(audit.resumed)} checkpoints"
    return no_problems("whole_run/lines", problems, of=of, what="differ")


def _other_line(judged: RunDirectory, copy: RunDirectory, at: int, number: int) -> Problem:
    """The first field in which a resumed line differs."""
    said, own = copy.log[number], judged.log[number] if number < len(judged.log) else {}
    names = [name for name in {**own, **said} if said.get(name) != own.get(name)]
    story = (
        f"resumed from step {at}, line {number + 1}: {names[0] if names else 'its form'} is not the run's own"
    )
    return Problem(story, *((x.get(names[0]) for x in (said, own)) if names else ("other bytes", "the same")))


def replay_drawn(audit: Audit, plan: TrainingPlan, updates: Sequence[int] | None = None) -> list[Replayed]:
    """Drawn updates (those that the audit has chosen, if none are named), replayed, beside the run's own lines."""
    chosen = audit.replayed if updates is None else updates
    return [
        update.judge(
            plan,
            drawn.update,
            before,
            State.read(drawn.after, drawn.update),
            replay(plan, drawn.update, before),
            logged(audit.judged, drawn.update),
            "",
        )
        for drawn in audit.drawn
        if drawn.update in chosen
        for before in [State.read(drawn.before, drawn.update - 1)]
    ]


def replayed(found: Sequence[Replayed]) -> Finding:
    """What the replayed updates logged and left is what the oracles say."""
    return update.everything("whole_run/replay", found)


def micro_batches(followed: ConfiguredRun | None) -> Finding:
    """Updates of batches that were cut into parts are those of whole batches."""
    if followed is None:
        return Finding(
            "whole_run/micro_batches",
            passed=True,
            figure=f"not offered: the settings have no {MICRO_BATCHES}, every update is of one batch",
            threshold="<= 1",
            margin="",
        )
    return update.everything("whole_run/micro_batches", replay_updates(followed, REPLAYED_IN_PARTS))
