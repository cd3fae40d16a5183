"""The run that is judged, and short ones that each answer one question about training."""

import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fixtures.corpus import files
from fixtures.corpus.split import BlindSplit, draw_blind
from gates.errors import GateError
from gates.subject import interrupted, questions
from gates.subject.git import Git, git_state
from gates.subject.grading import Grading
from gates.subject.guarded import Report, guarded, read_reports
from gates.subject.process import Finished, Subject
from gates.subject.questions import Answers
from gates.subject.run_directory import RunDirectory

SHORT = ("--steps", "2")


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


@dataclass(frozen=True)
class Committed:
    """The run that is judged, its answers to the questions, and its live logits computed again."""

    trained: Trained
    run: RunDirectory
    answers: Answers
    reloaded: np.ndarray


@dataclass(frozen=True)
class Blind:
    """A run on a data directory of which the gate kept the part that it is scored on."""

    split: BlindSplit
    run: RunDirectory


def train_committed(grading: Grading) -> Committed:
    """The run of the definition of done: defaults, committed corpus, tracked by MLflow; and its answers afterwards."""
    subject = Subject(grading.subject, grading.home / "committed", env={})
    trained = watch(subject, files.COMMITTED)
    answers = questions.ask(subject, trained.run, grading.committed)
    return Committed(trained, trained.run, answers, questions.ask_again(subject, trained.run))


def watch(subject: Subject, data: Path, *options: str) -> Trained:
    """Train, keeping what the manifest was when the first step was logged."""
    run = RunDirectory(subject.home / "run")
    arguments = ("train", "--out", str(run.path), "--data", str(data), *options)
    git, began = git_state(), datetime.now(UTC)
    process = subject.start(*arguments)
    process.wait_until(lambda: run.logged_steps() > 0)
    early = run.path / "manifest.json"
    seen = early.read_bytes() if early.exists() else None
    process.wait().succeeded()
    return Trained(run, arguments, data, seen, (git, git_state()), began, datetime.now(UTC))


def train_blind(grading: Grading) -> Blind:
    """Draw a split in made-up words from the session's seed, hand over its training part, train on that."""
    rows = [row for split in grading.committed.values() for row in split]
    split = draw_blind(rows, grading.blind_seed)
    data = grading.home / "blind" / "data"
    files.write_directory(data, split.handed)
    return Blind(split, grading.untracked(grading.subject, "blind").train("--data", data))


def train_on_overlap(
    grading: Grading, module: str, name: str, *options: str
) -> tuple[Finished, RunDirectory]:
    """Train on a data directory with one training cell in val as well. The status is for the gate to judge."""
    subject = grading.untracked(module, name)
    train, val = grading.committed["train"], grading.committed["val"]
    files.write_directory(subject.home / "data", {"train": train, "val": [*val, train[0]]})
    run = RunDirectory(subject.home / "run")
    return subject.run("train", "--out", run.path, "--data", subject.home / "data", *SHORT, *options), run


def kill_at_first_step(grading: Grading, module: str, name: str) -> RunDirectory:
    """SIGKILL as soon as the first step is in the log."""
    subject = grading.untracked(module, name)
    if subject.interrupt(signal.SIGKILL, 1, *interrupted.OPTIONS) is None:
        raise GateError("the run ended before its first step could be seen in train_log.jsonl")
    return RunDirectory(subject.home / "run")


def train_guarded(grading: Grading, module: str, name: str) -> tuple[RunDirectory, list[Report]]:
    """Steps, a save, a load, more steps and the end of a run, where unpickling raises."""
    subject, reports = guarded(module, grading.home / name)
    subject.train("--steps", "4", "--stop-after", "2")
    run = subject.train("--steps", "4", "--resume")
    return run, read_reports(reports)
