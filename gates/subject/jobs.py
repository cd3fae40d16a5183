"""Everything a session may ask of subjects, by name. A test says what it needs; only that is run.

Each job starts processes, one after the other, and returns what they left; it judges nothing.
"""

from collections.abc import Iterable
from functools import partial

from fixtures.controls.shared.table import Control
from gates.subject.controls import RUNS, follow_impl, uninterrupted
from gates.subject.drawn_resumes import audit
from gates.subject.interrupted_runs import (
    KILL_EARLY,
    KILL_LATE,
    OPTIONS,
    STOPS,
    TERMINATE,
    Interrupted,
    kill_and_resume,
    stop_and_resume,
    terminate_and_resume,
)
from gates.subject.mutants import STRENGTH, judge_mutants
from gates.subject.pool import Job, Once
from gates.subject.property_runs import check_adapter
from gates.subject.run_directory import RunDirectory
from gates.subject.session import Session
from gates.subject.stepwise_runs import diverge, follow_micro_batches, train_updates
from gates.subject.tampering import WAYS, tamper
from gates.subject.training_runs import (
    kill_at_first_step,
    train_blind,
    train_committed,
    train_guarded,
    train_on_overlap,
)


def all_jobs(session: Session, controls: Iterable[Control]) -> dict[str, Job]:
    """Name -> job, for every job there is."""
    subject = session.subject
    committed = Once(partial(train_committed, session))
    jobs: dict[str, Job] = {
        "committed": committed,
        "blind": partial(train_blind, session),
        "overlap": partial(train_on_overlap, session, subject, "overlap"),
        "manifest": partial(kill_at_first_step, session, subject, "manifest"),
        "guarded": partial(train_guarded, session, subject, "guarded"),
        "updates": partial(train_updates, session),
        "whole-run": lambda: audit(session, committed().run),
        "micro-batches": partial(follow_micro_batches, session),
        "diverging": lambda: diverge(session, subject, "diverging", session.begun().config),
        "tampered": lambda: tamper(session, subject, "tampered", session.begun().config, *WAYS),
        "properties": partial(check_adapter, session),
        "strength": partial(judge_mutants, session, STRENGTH, "strength"),
        "resume": partial(_uninterrupted, session, "resume"),
        "resume/rerun": partial(_uninterrupted, session, "rerun"),
        "resume/kill-early": partial(kill_and_resume, session, subject, "kill-early", KILL_EARLY),
        "resume/kill-late": partial(kill_and_resume, session, subject, "kill-late", KILL_LATE),
        "resume/terminate": partial(terminate_and_resume, session.untracked(subject, "terminate"), TERMINATE),
        "control-reference": partial(uninterrupted, session),
        "control-followed": partial(follow_impl, session),
    }
    jobs |= {f"resume/{name}": partial(_stopped, session, name, stops) for name, stops in STOPS.items()}
    jobs |= {f"control/{c.name}": partial(RUNS[c.run], session, c) for c in controls}
    return jobs


def _uninterrupted(session: Session, name: str) -> RunDirectory:
    return session.untracked(session.subject, name).train(*OPTIONS)


def _stopped(session: Session, name: str, stops: tuple[int, ...]) -> Interrupted:
    return stop_and_resume(session.untracked(session.subject, name), stops, OPTIONS)
