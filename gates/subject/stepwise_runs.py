"""Runs that are followed update by update: a checkpoint at every step, few cells, settings that show mistakes."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

from fixtures.corpus import files
from fixtures.corpus.conjugation import Row
from gates.subject.declarations import SPECIFIED, Declared
from gates.subject.process import Finished, Subject
from gates.subject.run_directory import RunDirectory
from gates.subject.session import Session

# An epoch is short, its last batch shorter still, the warm-up ends soon, epsilon matters, some gradients are clipped.
SETTINGS = {
    "seed": "7",
    "steps": 36,
    "batch_size": 12,
    "dropout": 0.1,
    "eval_every": 5,
    "checkpoint_every": 1,
}
OPTIMIZER = {
    "peak_lr": 4e-3,
    "min_lr": 1e-4,
    "warmup_steps": 4,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-5,
    "weight_decay": 1.0,
    "clip_norm": 1.4,
}
# Every n-th cell of the committed splits: 7 batches an epoch, the last of 6 rows, and a little more than 5 epochs;
# val has 3 batches, the last of 8 rows.
FEWER = {"train": 5, "val": 3}
# Inside the warm-up, at the peak, after an evaluation, the short batch, the next epoch, a late short batch, the last.
REPLAYED = (2, 4, 6, 7, 8, 28, 36)
EVALUATED = (5, 36)
MICRO_BATCHES = "micro_batches"
"""The setting, if a subject has it, that cuts each batch into so many parts."""
IN_PARTS = SETTINGS | {MICRO_BATCHES: 5}  # of 12 rows, and of the 6 of a short batch: unequal parts
SHORT_BATCH = 7
TO_THE_SHORT_BATCH = ("--stop-after", str(SHORT_BATCH))
REPLAYED_IN_PARTS = (2, SHORT_BATCH)
DIVERGE = {"float32": 1e20, "float64": 1e160}  # a rate with which some square or product overflows


@dataclass(frozen=True, eq=False)
class ConfiguredRun:
    """A run, the settings that it was told to follow (config.toml), and the cells that it was given.

    `begun` is where step 0 is, if it is not in the run itself; `declared` is what the loop says of itself.
    """

    run: RunDirectory
    config: str
    rows: Mapping[str, Sequence[Row]]
    begun: RunDirectory | None = None
    declared: Declared = SPECIFIED


@dataclass(frozen=True)
class Updates:
    """What the update gate looks at: a run that stopped before its first step, and one followed step by step."""

    begun: RunDirectory
    followed: ConfiguredRun


def train_updates(session: Session) -> Updates:
    """A run as by default, stopped before its first step; and one that is followed, from beginning to end."""
    begun = session.begun()
    return Updates(begun, follow(session, session.warm(session.subject, "updates"), begun.config))


def follow(
    session: Session, subject: Subject, config: str, *options: str, settings: Mapping[str, Any] = SETTINGS
) -> ConfiguredRun:
    """Train with a checkpoint at every step, on few cells, with settings derived from those of `config`."""
    run = subject.train(*stepwise_options(session, subject, config, settings), *options)
    # Judged by what it was told, not by what it says: if it did otherwise, it is wrong.
    declared = session.declared(subject.module)
    return ConfiguredRun(run, _told(run.config, declared, settings), _fewer(session), declared=declared)


def follow_micro_batches(session: Session) -> ConfiguredRun | None:
    """The first updates of such a run, each batch cut into parts. None if the subject's settings know no parts."""
    config = session.begun().config
    if MICRO_BATCHES not in tomllib.loads(config):
        return None
    subject = session.warm(session.subject, "micro-batches")
    return follow(session, subject, config, *TO_THE_SHORT_BATCH, settings=IN_PARTS)


def stepwise_options(
    session: Session, subject: Subject, config: str, settings: Mapping[str, Any] = SETTINGS, **changes: Any
) -> tuple[str, ...]:
    """The options of such a run; its data and its configuration are written. `changes` are those of the optimizer."""
    data, file = subject.home / "data", subject.home / "followed.toml"
    subject.home.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        files.write_directory(data, _fewer(session))
    declared = session.declared(subject.module)
    file.write_text(_told(config, declared, settings, **changes), encoding="utf-8")
    return "--data", str(data), "--config", str(file)


def _told(config: str, declared: Declared, settings: Mapping[str, Any] = SETTINGS, **changes: Any) -> str:
    """A run's settings, changed to be followed; without dropout if nobody could tell what was dropped."""
    said = tomllib.loads(config)
    optimizer = said.get("optimizer", {}) | OPTIMIZER | settings.get("optimizer", {}) | changes
    told = {**said, **settings, "optimizer": optimizer}
    if declared.own_generator and "masks" not in declared.offers:
        told |= {"dropout": 0.0}
    return tomli_w.dumps(told)


def _fewer(session: Session) -> dict[str, list[Row]]:
    return {name: session.committed[name][::n] for name, n in FEWER.items()}


def by_default(session: Session, run: RunDirectory, begun: RunDirectory | None = None) -> ConfiguredRun:
    """A run on the committed corpus, with the settings that the subject itself has chosen."""
    return ConfiguredRun(run, run.config, session.committed, begun, session.declared(session.subject))


def diverge(session: Session, module: str, name: str, config: str) -> tuple[Finished, RunDirectory]:
    """Train at a rate that makes the numbers overflow. The status is for the gate to judge."""
    subject, run = session.warm(module, name), RunDirectory(session.home / name / "run")
    rate = DIVERGE[tomllib.loads(config).get("dtype", "float32")]
    options = stepwise_options(session, subject, config, peak_lr=rate, min_lr=rate, weight_decay=0.0)
    return subject.run("train", "--out", run.path, *options), run
