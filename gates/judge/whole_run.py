"""Checks of the whole run: what was drawn from it is what the formula gives, and is made again to the byte."""

from collections.abc import Sequence
from dataclasses import replace

from gates.judge import audited_update, optimizer_audit, update
from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.judge.recorded_update import RecordedUpdate
from gates.judge.replay import DECAYED, replay
from gates.judge.run_record import Settings, State, TrainingPlan, logged
from gates.judge.update import Replayed, replay_updates
from gates.subject.audit_draw import mean_chance_of_seeing
from gates.subject.drawn_resumes import REPLAYED, Audit, Drawn
from gates.subject.recorded_directory import RecordedDirectory
from gates.subject.run_directory import RunDirectory
from gates.subject.stepwise_runs import MICRO_BATCHES, REPLAYED_IN_PARTS, ConfiguredRun
from gates.verdict.finding import Finding, Problem, no_problems, nothing_to_judge
from honestloop.description import Description

LASTING = (10, 50)
"""Of mistakes that last so many updates, the verdict says how likely it is that one of them was drawn."""


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


def optimizer(audit: Audit, settings: Settings, description: Description) -> Finding:
    """Every drawn update, from the tensors on both sides of it: moments, weights, decay, rate, clipped norm."""
    said = {**settings.optimizer, "decayed": [name for name, decays in DECAYED.items() if decays]}
    declared = DeclaredOptimizer.read(description, {"optimizer": said}, settings.steps)
    audited = [audited_update.audit(declared, _recorded(audit, drawn)) for drawn in audit.drawn]
    found = optimizer_audit.late(audited, chance_in_words(audit, settings.steps))
    return replace(found, where="whole_run/optimizer")


def chance_in_words(audit: Audit, steps: int) -> str:
    """How likely a mistake that comes and goes was to be drawn."""
    saved = list(audit.judged.checkpoints())
    chances = {k: mean_chance_of_seeing(k, steps, saved, at_least=REPLAYED) for k in LASTING}
    return "a mistake of " + ", ".join(f"{k} updates is seen in {c:.0%}" for k, c in chances.items())


def _recorded(audit: Audit, drawn: Drawn) -> RecordedUpdate:
    """A drawn update, as the audit of an optimizer takes it."""
    around = {name: logged(audit.judged, drawn.update + d) for name, d in (("before", -1), ("after", 1))}
    return RecordedUpdate(
        f"update {drawn.update}",
        RecordedDirectory(drawn.before.path).snapshot(drawn.update - 1),
        RecordedDirectory(drawn.after.path).snapshot(drawn.update),
        logged(audit.judged, drawn.update),
        drawn.update,
        {f"the rate of the update {name}": float(line["lr"]) for name, line in around.items() if line},
    )


def replay_drawn(audit: Audit, plan: TrainingPlan) -> list[Replayed]:
    """The drawn updates that the audit has chosen, replayed, beside the run's own lines."""
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
        if drawn.update in audit.replayed
        for before in [State.read(drawn.before, drawn.update - 1)]
    ]


def replayed(found: Sequence[Replayed]) -> Finding:
    """What the replayed updates logged and left is what the oracles say."""
    return update.everything("whole_run/replay", found)


def micro_batches(followed: ConfiguredRun | None) -> Finding:
    """Updates of batches that were cut into parts are those of whole batches."""
    if followed is None:
        return nothing_to_judge(
            "whole_run/micro_batches",
            missing=f"the settings have no {MICRO_BATCHES}, every update is of one batch",
            unproved="that batches which are cut into parts give the same updates",
        )
    return update.everything("whole_run/micro_batches", replay_updates(followed, REPLAYED_IN_PARTS))
