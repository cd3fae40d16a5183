"""The run that is judged, and short ones that each answer one question about training."""

import math
import signal
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fixtures.corpus import files
from fixtures.corpus.split import BlindSplit, draw_blind
from gates.errors import GateError
from gates.subject import interrupted_runs, logit_probes
from gates.subject.git import Git, git_state
from gates.subject.logit_probes import Answers
from gates.subject.process import Finished, Subject
from gates.subject.run_directory import LOG, RunDirectory
from gates.subject.session import Session
from gates.subject.tracking_store import store_of_session
from gates.subject.unpickling_guard import Report, guarded, read_reports

SHORT = ("--steps", "2")
OTHER_SEED = ("--seed", "1")


@dataclass
class Growth:
    """How a file grew, seen from outside."""

    path: Path
    seen: list[tuple[float, float, int]] = field(default_factory=list)
    """(time of the last look before, time of the look that saw it, bytes) of every size, in seconds of one clock."""
    _last: float = -math.inf

    def look(self) -> bool:
        """Note the size if it has changed. Always False: what is looked at goes on growing."""
        now, size = time.monotonic(), self.path.stat().st_size if self.path.exists() else 0
        if not self.seen or size != self.seen[-1][2]:
            self.seen.append((self._last, now, size))
        self._last = now
        return False

    def least_seconds(self, after: int, until: int) -> float:
        """At least so long passed between its having `after` bytes and its having `until`; 0 if that was not seen."""
        began = next((now for _, now, size in self.seen if size >= after), math.inf)
        ended = next((last for last, _, size in self.seen if size >= until), -math.inf)
        return max(ended - began, 0.0)


@dataclass(frozen=True)
class Trained:
    """A finished run and what was seen from outside while it went on."""

    run: RunDirectory
    arguments: tuple[str, ...]
    data: Path
    early_manifest: bytes | None
    """As it was when the first step appeared in the log."""
    git: tuple[Git, Git]
    """Before and after."""
    began: datetime
    ended: datetime
    seconds: float
    """Between them, by a clock that nobody sets."""
    growth: Growth
    """Of the log, from its first line on."""


@dataclass(frozen=True)
class Committed:
    """The run that is judged, its answers to the probes, and its live logits computed again."""

    trained: Trained
    run: RunDirectory
    answers: Answers
    reloaded: np.ndarray


@dataclass(frozen=True)
class Blind:
    """A run on a data directory of which the gate kept the part that it is scored on."""

    split: BlindSplit
    run: RunDirectory


def train_committed(session: Session) -> Committed:
    """The run of the definition of done: defaults, committed corpus, tracked by MLflow; and its answers afterwards."""
    subject = session.started(session.subject, "committed", env=store_of_session(session.runs))
    trained = watch(subject, files.COMMITTED)
    warm = session.warm(session.subject, "committed")  # which has not trained it
    answers = logit_probes.probe(warm, trained.run, session.committed)
    return Committed(trained, trained.run, answers, logit_probes.repeat_live_logits(warm, trained.run))


def watch(subject: Subject, data: Path, *options: str) -> Trained:
    """Train, keeping what the manifest was when the first step was logged."""
    run = RunDirectory(subject.home / "run")
    arguments = ("train", "--out", str(run.path), "--data", str(data), *options)
    git, began = git_state(subject.folder), datetime.now(UTC)
    process = subject.start(*arguments)
    process.wait_until(lambda: run.logged_steps() > 0, subject.timeout)
    try:
        seen = run.read("manifest.json")
    except GateError:
        seen = None
    growth = Growth(run.path / LOG)
    process.wait_until(growth.look, subject.timeout)
    seconds = process.wait(subject.timeout).succeeded().seconds
    after, ended = git_state(subject.folder), datetime.now(UTC)
    return Trained(run, arguments, data, seen, (git, after), began, ended, seconds, growth)


def train_blind(session: Session) -> Blind:
    """Draw a split in made-up words from the session's seed, hand over its training part, train on that."""
    rows = [row for split in session.committed.values() for row in split]
    split = draw_blind(rows, session.blind_seed)
    data = session.home / "blind" / "data"
    files.write_directory(data, split.handed)
    return Blind(split, session.warm(session.subject, "blind").train("--data", data))


def train_on_overlap(
    session: Session, module: str, name: str, *options: str
) -> tuple[Finished, RunDirectory]:
    """Train on a data directory with one training cell in val as well. The status is for the gate to judge."""
    subject = session.untracked(module, name)
    train, val = session.committed["train"], session.committed["val"]
    files.write_directory(subject.home / "data", {"train": train, "val": [*val, train[0]]})
    run = RunDirectory(subject.home / "run")
    return subject.run("train", "--out", run.path, "--data", subject.home / "data", *SHORT, *options), run


def kill_at_first_step(session: Session, module: str, name: str) -> RunDirectory:
    """SIGKILL as soon as the first step is in the log."""
    subject = session.untracked(module, name)
    if subject.interrupt(signal.SIGKILL, 1, *interrupted_runs.OPTIONS) is None:
        raise GateError("the run ended before its first step could be seen in train_log.jsonl")
    return RunDirectory(subject.home / "run")


def train_guarded(session: Session, module: str, name: str) -> tuple[RunDirectory, list[Report]]:
    """Steps, a save, a load, more steps and the end of a run, where unpickling raises; with another seed."""
    subject, reports = guarded(session, module, name)
    subject.train(*OTHER_SEED, "--steps", "4", "--stop-after", "2")
    run = subject.train(*OTHER_SEED, "--steps", "4", "--resume")
    return run, read_reports(reports)
