"""Everything a session may ask of subjects, by name. A test says what it needs; only that is run.

Each job starts processes, one after the other, and returns what they left; it judges nothing.
"""

from collections.abc import Iterable
from functools import partial

from fixtures.controls.shared.table import Control
from gates.subject.controls import RUNS, follow_impl, uninterrupted
from gates.subject.followed import diverge, train_updates
from gates.subject.grading import Grading
from gates.subject.interrupted import (
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
from gates.subject.pool import Job
from gates.subject.run_directory import RunDirectory
from gates.subject.tampering import WAYS, tamper
from gates.subject.trained import (
    kill_at_first_step,
    train_blind,
    train_committed,
    train_guarded,
    train_on_overlap,
)


def all_jobs(grading: Grading, controls: Iterable[Control]) -> dict[str, Job]:
    """Name -> job, for every job there is."""
    subject = grading.subject
    jobs: dict[str, Job] = {
        "committed": partial(train_committed, grading),
        "blind": partial(train_blind, grading),
        "overlap": partial(train_on_overlap, grading, subject, "overlap"),
        "manifest": partial(kill_at_first_step, grading, subject, "manifest"),
        "guarded": partial(train_guarded, grading, subject, "guarded"),
        "updates": partial(train_updates, grading),
        "diverging": lambda: diverge(grading, subject, "diverging", grading.begun().config),
        "tampered": lambda: tamper(grading, subject, "tampered", grading.begun().config, *WAYS),
        "strength": partial(judge_mutants, grading, STRENGTH, "strength"),
        "resume": partial(_uninterrupted, grading, "resume"),
        "resume/rerun": partial(_uninterrupted, grading, "rerun"),
        "resume/kill-early": partial(kill_and_resume, grading, subject, "kill-early", KILL_EARLY),
        "resume/kill-late": partial(kill_and_resume, grading, subject, "kill-late", KILL_LATE),
        "resume/terminate": partial(terminate_and_resume, grading.untracked(subject, "terminate"), TERMINATE),
        "control-reference": partial(uninterrupted, grading),
        "control-followed": partial(follow_impl, grading),
    }
    jobs |= {f"resume/{name}": partial(_stopped, grading, name, stops) for name, stops in STOPS.items()}
    jobs |= {f"control/{c.name}": partial(RUNS[c.run], grading, c) for c in controls}
    return jobs


def _uninterrupted(grading: Grading, name: str) -> RunDirectory:
    return grading.untracked(grading.subject, name).train(*OPTIONS)


def _stopped(grading: Grading, name: str, stops: tuple[int, ...]) -> Interrupted:
    return stop_and_resume(grading.untracked(grading.subject, name), stops, OPTIONS)
