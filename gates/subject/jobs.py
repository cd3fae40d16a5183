"""Everything a session may ask of subjects, by name. A test says what it needs; only that is run.

Each job starts processes, one after the other, and returns what they left; it judges nothing.
"""

from collections.abc import Iterable
from functools import partial

from fixtures.controls.shared.table import Control
from gates.subject.controls import RUNS, follow_impl, uninterrupted
from gates.subject.interrupted_runs import CHAINS, KILLED, OPTIONS, TWICE, kill_often, stop_often
from gates.subject.mutants import STRENGTH, judge_mutants
from gates.subject.pool import Job, Part
from gates.subject.property_runs import check_adapter
from gates.subject.session import Session
from gates.subject.stepwise_runs import diverge, train_updates
from gates.subject.tampering import WAYS, tamper
from gates.subject.training_runs import (
    train_blind,
    train_committed,
    train_guarded,
    train_on_overlap,
)


def all_jobs(session: Session, controls: Iterable[Control]) -> dict[str, Job | Part]:
    """Name -> job, for every job there is; some are parts of what another leaves."""
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
        "resume": lambda: session.untracked(subject, "resume").train(*OPTIONS),
        "resume/rerun": lambda: session.warm(subject, "rerun").train(*OPTIONS),  # another process in any case
        "killed": partial(kill_often, session, subject, "killed"),
        "control-reference": partial(uninterrupted, session),
        "control-followed": partial(follow_impl, session),
    }
    jobs |= {f"resume/{name}": Part("killed", name) for name in KILLED}
    for number, stops in enumerate(CHAINS):
        chain = f"stopped-{number}"
        jobs[chain] = partial(stop_often, session, chain, stops)
        jobs |= {f"resume/{name}": Part(chain, name) for name in stops}
        jobs[f"resume/{TWICE}"] = Part(chain, TWICE)  # of the last of them
    jobs |= {f"control/{c.name}": partial(RUNS[c.run], session, c) for c in controls}
    return jobs
