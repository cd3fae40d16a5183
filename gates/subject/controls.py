"""How the negative controls are run: subjects of our own that are wrong in one way, each as its `CONTROL` asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fixtures import controls
from fixtures.controls.shared.table import FIRST_WRONG, Control
from fixtures.corpus import files
from gates.subject import interrupted_runs, logit_probes, tampering
from gates.subject.drawn_resumes import Audit, draw_updates, resume_drawn, spread
from gates.subject.interrupted_runs import Interrupted, kill_and_resume, stop_and_resume, terminate_and_resume
from gates.subject.logit_probes import Answers
from gates.subject.mutants import judge_mutants
from gates.subject.process import UNDRAWN, UNTRACKED, Finished, Subject
from gates.subject.property_runs import Checked, check_module
from gates.subject.run_directory import RunDirectory
from gates.subject.session import Session
from gates.subject.stepwise_runs import (
    IN_PARTS,
    SETTINGS,
    TO_THE_SHORT_BATCH,
    ConfiguredRun,
    diverge,
    follow,
    stepwise_options,
)
from gates.subject.tracking_store import own_store
from gates.subject.training_runs import Trained, kill_at_first_step, train_on_overlap, watch
from gates.subject.unpickling_guard import Report, guarded, read_reports
from honestloop.suite_location import ROOT, in_suite

IMPL = in_suite("impl")
"""The loop that the controls are derived from."""
FOLLOWED_END = 13  # in the second epoch, after its evaluation
RESUMED_END = 18  # some steps into the second epoch
KILLED = range(20, 46)  # before the first checkpoint, and after RESUMED_END
UNTIL_RESUMED_END = ("--stop-after", str(RESUMED_END))

# Late gradients are clipped too.
LONG = SETTINGS | {"steps": 120, "eval_every": 20, "checkpoint_every": 20, "optimizer": {"clip_norm": 0.5}}
MADE_AGAIN = 2  # of the drawn updates of a control: each takes two processes


@dataclass(frozen=True)
class Late:
    """A run that is wrong from some update on, what it was told, and its audit."""

    followed: ConfiguredRun
    audit: Audit


def module_of(control: str) -> str:
    """The module of a committed control."""
    return f"{controls.__name__}.{control}"


def home_of(control: Control) -> str:
    """The folder of its runs."""
    return f"control-{control.name}"


def subject_of(session: Session, control: Control) -> Subject:
    """The control, untracked."""
    return session.untracked(module_of(control.name), home_of(control))


def _options(control: Control) -> tuple[str, ...]:
    stop = control.stops or ((max(control.replayed),) if control.replayed else ())
    return ("--stop-after", str(stop[-1])) if stop else ()


def _train(subject: Subject, control: Control, **options: str) -> RunDirectory:
    return subject.train("--steps", str(control.steps), *_options(control), **options)


def train(session: Session, control: Control) -> RunDirectory:
    """A run of so many steps, or its beginning."""
    return _train(subject_of(session, control), control)


def train_with_plots(session: Session, control: Control) -> RunDirectory:
    """The same, with its pictures drawn."""
    env = {"HONESTLOOP_TRACKING": "off"}
    return _train(Subject(module_of(control.name), session.home / home_of(control), env), control)


def train_watched(session: Session, control: Control) -> Trained:
    """The same, watched from outside."""
    return watch(subject_of(session, control), files.COMMITTED, "--steps", str(control.steps))


def train_twice(session: Session, control: Control) -> tuple[RunDirectory, RunDirectory]:
    """The first steps of the same run, twice."""
    subject = subject_of(session, control)
    return _train(subject, control, out="first"), _train(subject, control, out="second")


def train_with_two_seeds(session: Session, control: Control) -> tuple[RunDirectory, RunDirectory]:
    """Two seeds, both stopped before the first step."""
    subject = subject_of(session, control)
    first, other = (
        subject.train("--seed", seed, "--stop-after", "0", out=f"seed-{seed}") for seed in ("0", "7")
    )
    return first, other


def train_and_ask(session: Session, control: Control) -> tuple[RunDirectory, Answers]:
    """A run and its answers to the probes."""
    subject = subject_of(session, control)
    run = _train(subject, control)
    return run, logit_probes.probe(subject, run, session.committed)


def train_and_reload(session: Session, control: Control) -> tuple[RunDirectory, np.ndarray]:
    """A run and its live logits computed again."""
    subject = subject_of(session, control)
    run = _train(subject, control)
    return run, logit_probes.repeat_live_logits(subject, run)


def train_on_overlapping_splits(session: Session, control: Control) -> tuple[Finished, RunDirectory]:
    """Begun, or refused, on splits that overlap."""
    return train_on_overlap(session, module_of(control.name), home_of(control), *_options(control))


def train_guarded(session: Session, control: Control) -> tuple[Finished, list[Report]]:
    """A run that unpickles, where unpickling raises; it must break."""
    subject, reports = guarded(session, module_of(control.name), home_of(control))
    finished = subject.run("train", "--out", subject.home / "run", "--steps", "4", "--stop-after", "2")
    return finished, read_reports(reports)


def train_tracked(
    session: Session, control: Control, env: Mapping[str, str] = UNDRAWN
) -> tuple[RunDirectory, str]:
    """A run tracked in a store of its own, so that no false metrics reach the user's; and that store."""
    home = session.home / home_of(control)
    home.mkdir(parents=True)
    store = own_store(home)
    run = _train(Subject(module_of(control.name), home, env={**env, **store}), control)
    return run, store["MLFLOW_TRACKING_URI"]


def train_tracked_with_plots(session: Session, control: Control) -> tuple[RunDirectory, str]:
    """The same, with its pictures drawn."""
    return train_tracked(session, control, env={})


def kill(session: Session, control: Control) -> RunDirectory:
    """SIGKILL as soon as the first step is in the log."""
    return kill_at_first_step(session, module_of(control.name), home_of(control))


def resume(session: Session, control: Control) -> Interrupted:
    """Stopped, and resumed up to the step at which `uninterrupted` stopped."""
    subject = subject_of(session, control)
    return stop_and_resume(subject, control.stops, interrupted_runs.OPTIONS, *UNTIL_RESUMED_END)


def resume_killed(session: Session, control: Control) -> Interrupted:
    """Killed before its first checkpoint, and resumed up to the same step."""
    return kill_and_resume(session, module_of(control.name), home_of(control), KILLED, *UNTIL_RESUMED_END)


def resume_terminated(session: Session, control: Control) -> Interrupted:
    """Ended by SIGTERM, and resumed up to the same step."""
    return terminate_and_resume(subject_of(session, control), control.stops[0], *UNTIL_RESUMED_END)


def uninterrupted(session: Session) -> RunDirectory:
    """What these must equal: the same steps of the loop that they are derived from, in one go."""
    subject = session.untracked(IMPL, "control-reference")
    return subject.train(*interrupted_runs.OPTIONS, *UNTIL_RESUMED_END)


def follow_control(session: Session, control: Control) -> ConfiguredRun:
    """Followed as long as its check must see. What the settings do not say is impl's default."""
    return follow(session, subject_of(session, control), "", *_options(control))


def follow_impl(session: Session) -> ConfiguredRun:
    """The loop that the controls are derived from, followed as long as those that are resumed."""
    subject = session.untracked(IMPL, "control-followed")
    return follow(session, subject, "", "--stop-after", str(FOLLOWED_END))


def follow_and_resume(session: Session, control: Control) -> tuple[RunDirectory, Interrupted]:
    """Its own run in one go, and one that was stopped in the second epoch and resumed up to the same step."""
    subject = subject_of(session, control)
    options = stepwise_options(session, subject, "")
    end = ("--stop-after", str(FOLLOWED_END))
    whole = subject.train(*options, *end, out="whole")
    return whole, stop_and_resume(subject, control.stops, options, *end)


def resume_tampered(session: Session, control: Control, way: str) -> tampering.Resumed:
    """Resumed from a checkpoint that something was done to."""
    return tampering.tamper(session, module_of(control.name), home_of(control), "", way)[way]


def train_long(session: Session, control: Control) -> ConfiguredRun:
    """A longer run on few cells that begins to be wrong at an update drawn by the session."""
    subject = late_subject_of(session, control)
    return follow(session, subject, "", settings=LONG)


def audit_late(session: Session, control: Control) -> Late:
    """The same, audited like the run that is judged."""
    subject = late_subject_of(session, control)
    followed = follow(session, subject, "", settings=LONG)
    # Only the last that are drawn are made again, where it is surely wrong: more would only take time.
    chance = session.chance(f"audit/{control.name}")
    drawn, special = draw_updates(chance, followed.run, followed.rows["train"])
    updates = [update for update in drawn if update > control.begins[1]][-MADE_AGAIN:]
    options = stepwise_options(session, subject, "", LONG)
    return Late(followed, resume_drawn(subject, followed.run, updates, spread(updates, special), *options))


def late_subject_of(session: Session, control: Control) -> Subject:
    """The control, untracked, told when to begin."""
    env = {**UNTRACKED, FIRST_WRONG: str(first_wrong(session, control))}
    return session.started(module_of(control.name), home_of(control), env)


def first_wrong(session: Session, control: Control) -> int:
    """The update, counted from 1, with which a control begins to be wrong."""
    first, last = control.begins
    return session.chance(f"begins/{control.name}").randint(first, last)


def follow_late(session: Session, control: Control) -> ConfiguredRun:
    """Followed to its end, by one that begins late."""
    return follow(session, late_subject_of(session, control), "")


def follow_in_parts(session: Session, control: Control) -> ConfiguredRun:
    """Followed up to its first short batch, each batch cut into parts."""
    subject = subject_of(session, control)
    return follow(session, subject, "", *TO_THE_SHORT_BATCH, settings=IN_PARTS)


def check_properties(session: Session, control: Control) -> Checked:
    """An adapter that breaks a rule, graded by the rules of its family."""
    return check_module(module_of(control.name), session.home / home_of(control), ROOT, control.rules)


def nothing(session: Session, control: Control) -> None:
    """This control is judged by its source alone."""


RUNS: Mapping[str, Callable[[Session, Control], Any]] = {
    "train": train,
    "train with plots": train_with_plots,
    "train watched": train_watched,
    "train twice": train_twice,
    "train with two seeds": train_with_two_seeds,
    "train and ask": train_and_ask,
    "train and reload": train_and_reload,
    "train on overlapping splits": train_on_overlapping_splits,
    "train guarded": train_guarded,
    "train tracked": train_tracked,
    "train tracked with plots": train_tracked_with_plots,
    "kill at the first step": kill,
    "stop and resume": resume,
    "kill and resume": resume_killed,
    "terminate and resume": resume_terminated,
    "follow": follow_control,
    "follow and resume": follow_and_resume,
    "diverge": lambda g, c: diverge(g, module_of(c.name), home_of(c), ""),
    "resume a changed checkpoint": lambda g, c: resume_tampered(g, c, "changed"),
    "resume a corrupted checkpoint": lambda g, c: resume_tampered(g, c, "corrupted"),
    "judge mutants": lambda g, c: judge_mutants(g, module_of(c.name), home_of(c)),
    "train long": train_long,
    "audit": audit_late,
    "follow late": follow_late,
    "follow in parts": follow_in_parts,
    "check properties": check_properties,
    "nothing": nothing,
}
"""What a control's `run` says -> what is done; each returns what it left."""
