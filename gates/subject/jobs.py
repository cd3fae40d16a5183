"""Everything a session may ask of subjects, by name. A test says what it needs; only that is run.

Each job starts processes, one after the other, and returns what they left; it judges nothing.
"""

import signal
from collections.abc import Iterable, Mapping
from functools import partial

from fixtures.controls.shared.table import Control
from gates.subject.controls import RUNS, follow_impl, uninterrupted
from gates.subject.crash_runs import crash, crash_everywhere
from gates.subject.interrupted_runs import CHAINS, KILLED, OPTIONS, TWICE, kill_often, stop_often
from gates.subject.interruptions import repeat, stop
from gates.subject.model_runs import ask_model
from gates.subject.mutants import STRENGTH, judge_mutants
from gates.subject.pool import Job, Once, Part
from gates.subject.property_runs import check_adapter
from gates.subject.recorded_runs import train_judged, train_stepwise
from gates.subject.run_directory import RunDirectory
from gates.subject.run_places import Places
from gates.subject.session import Session
from gates.subject.stepwise_runs import diverge, train_updates
from gates.subject.tampering import WAYS, tamper
from gates.subject.training_runs import (
    train_blind,
    train_committed,
    train_guarded,
    train_on_overlap,
)
from honestloop.description import Level


def all_jobs(session: Session, controls: Iterable[Control]) -> Mapping[str, Job | Part]:
    """Name -> job, for every job there is at the subject's level; some are parts of what another leaves."""
    if session.description.level < Level.PHASE_18:
        wrong = {
            f"control/{c.name}": partial(RUNS[c.run], session, c) for c in controls if c.gate == "properties"
        }
        return {**commanded_jobs(session), **wrong}
    subject = session.subject
    jobs: dict[str, Job | Part] = {
        "committed": partial(train_committed, session),
        "blind": partial(train_blind, session),
        "overlap": partial(train_on_overlap, session, subject, "overlap"),
        "manifest": Part("killed", "manifest"),
        "guarded": partial(train_guarded, session, subject, "guarded"),
        "updates": partial(train_updates, session),
        "diverging": lambda: diverge(session, subject, "diverging", session.begun().config),
        "tampered": lambda: tamper(session, subject, "tampered", session.begun().config, *WAYS),
        "properties": partial(check_adapter, session),
        "strength": partial(judge_mutants, session, STRENGTH, "strength"),
        "resume": partial(_uninterrupted, session, "resume"),
        "resume/rerun": partial(_uninterrupted, session, "rerun"),
        "killed": partial(kill_often, session, subject, "killed"),
        "control-reference": partial(uninterrupted, session),
        "control-followed": partial(follow_impl, session),
    }
    jobs |= {f"resume/{name}": Part("killed", name) for name in KILLED}
    for number, stops in enumerate(CHAINS):
        chain = f"stopped-{number}"
        jobs[chain] = partial(stop_often, session.untracked(subject, chain), stops)
        jobs |= {f"resume/{name}": Part(chain, name) for name in stops}
        jobs[f"resume/{TWICE}"] = Part(chain, TWICE)  # of the last of them
    jobs |= {f"control/{c.name}": partial(RUNS[c.run], session, c) for c in controls}
    return jobs


def commanded_jobs(session: Session) -> dict[str, Job]:
    """Name -> job, of a subject that is judged by its commands and what they leave."""
    places = Places(session, "interruption")
    judged, stepwise = Once(partial(train_judged, session)), Once(partial(train_stepwise, session))
    return {
        "interruption": lambda: places.whole,
        "interruption/rerun": partial(repeat, places),
        "interruption/stop": partial(stop, places),
        "interruption/terminate": partial(crash, places, signal.SIGTERM, "terminate"),
        "interruption/kill": partial(crash, places, signal.SIGKILL, "kill-early", "kill-late"),
        "interruption/events": partial(crash_everywhere, places, every=session.every_event),
        "record/judged": judged,
        "record/stepwise": stepwise,
        "model": lambda: ask_model(session, judged(), stepwise()),
        "properties": partial(check_adapter, session),
    }


def of_subject(name: str) -> bool:
    """Whether a job trains the subject; the others run loops of ours, or grade functions."""
    return name not in ("properties", "strength") and not name.startswith("control")


def _uninterrupted(session: Session, name: str) -> RunDirectory:
    return session.untracked(session.subject, name).train(*OPTIONS)
