"""Everything a session may ask of subjects, by name. A test says what it needs; only that is run.

Each job starts processes, one after the other, and returns what they left; it judges nothing.
"""

import random
import shutil
import signal
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from fixtures.corpus import files
from fixtures.corpus.conjugation import Row
from fixtures.corpus.split import BlindSplit, draw_blind
from gates.errors import GateError
from gates.judge import guarded, manifest, probes, strength, torn
from gates.judge.difference import MACHINES
from gates.judge.replay import Course, Settings
from gates.judge.scoring import Ruler
from gates.judge.update import Followed
from gates.subject.pool import Job
from gates.subject.process import UNDRAWN, UNTRACKED, Finished, Subject
from gates.subject.run_directory import RunDirectory
from gates.verdict.definition import CONTROLS, Control, control

SHORT = ("--steps", "2")
LONGER = ("--steps", "100")

# An interrupted run. 12 batches of 32 make an epoch of the committed corpus; the warm-up takes 50 steps; the first
# checkpoint that is not asked for is at 50. The check "cuts" verifies that the cuts fall where their names say.
RESUME_STEPS = 72
RESUME = ("--steps", str(RESUME_STEPS))
STOPS = {
    "first-step": (1,),
    "warm-up": (5,),
    "mid-epoch": (18,),
    "epoch-edge": (24,),
    "last-step": (RESUME_STEPS - 1,),
    "twice": (7, 30),
}
KILL_EARLY, KILL_LATE, TERMINATE = range(3, 46), range(52, 68), 33  # numbers of log lines
KILL_ATTEMPTS = 5
# Controls that are followed are replayed after these updates, if not after the second.
CONTROL_REPLAYED: Mapping[str, tuple[int, ...]] = {
    "logs_clipped_norm": (7,),
    "dropout_ends_with_evaluation": (6,),
    "evaluation_draws": (6,),
    "forgets_clip": (7,),
    "clips_after_update": (7,),
    "clips_each_tensor": (7,),
    "squares_before_clip": (7,),
}
CONTROL_STEPS: Mapping[str, int] = {  # how long the others are followed
    **dict.fromkeys(("update/schedule", "update/data"), 8),
    "update/evaluation": 5,
    "evaluation_of_means": 15,
}
FOLLOWED_STOP, FOLLOWED_END = 11, 13  # in the middle of the second epoch, after its evaluation
# The resume controls are stopped inside the first epoch, and compared some steps into the second.
CONTROL_STOP, CONTROL_END = 7, 18

# A run that is followed step by step: few cells, so that an epoch is short and its last batch shorter still, a warm-up
# that ends soon, and settings that show every mistake (an epsilon that matters, a limit that some gradients exceed).
FOLLOW = {"seed": "7", "steps": 18, "batch_size": 12, "dropout": 0.1, "eval_every": 5, "checkpoint_every": 1}
FOLLOW_OPTIMIZER = {
    "peak_lr": 4e-3,
    "min_lr": 1e-4,
    "warmup_steps": 4,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-5,
    "weight_decay": 1.0,
    "clip_norm": 1.4,
}
FEWER = {
    "train": 5,
    "val": 6,
}  # every n-th cell of the committed splits: 7 batches an epoch, the last of 6 rows
# Inside the warm-up, at the peak, after an evaluation, the short batch, the next epoch, the last.
REPLAYED = (2, 4, 6, 7, 8, 18)
EVALUATED = (5, 18)
DIVERGE = {"float32": 1e20, "float64": 1e160}  # a rate with which some square or product overflows
TORN_AT, TORN_END = 4, 6
CHECKS_REPLAYED = ("log", "moments", "weights")


@dataclass(frozen=True)
class Trained:
    """A finished run and what was seen from outside while it went on."""

    run: RunDirectory
    arguments: tuple[str, ...]
    data: Path
    early_manifest: bytes | None  # as it was when the first step appeared in the log
    git: tuple[manifest.Git, manifest.Git]  # before and after
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class Committed:
    """The run that is judged, its answers to the probes, and its live logits computed again."""

    trained: Trained
    run: RunDirectory
    answers: probes.Answers
    reloaded: np.ndarray


@dataclass(frozen=True)
class Interrupted:
    """A run that was interrupted, and where it stood each time: (lines in the log, steps of its checkpoints)."""

    run: RunDirectory
    stood: list[tuple[int, list[int]]]
    how: str


@dataclass(frozen=True)
class Blind:
    """A run on a data directory of which the gate kept the part that it is scored on."""

    split: BlindSplit
    run: RunDirectory


@dataclass(frozen=True)
class Updates:
    """What the update gate looks at: a run that stopped before its first step, and one followed step by step."""

    begun: RunDirectory
    followed: Followed


@dataclass
class Site:
    """The subject under judgement, the place for its runs, and the session's two seeds."""

    subject: str
    home: Path
    blind_seed: int
    kill_seed: int
    committed: dict[str, list[Row]] = field(default_factory=files.read_directory)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begun(self) -> RunDirectory:
        """A run of the subject with its defaults, stopped before its first step; made once, for whoever comes first."""
        with self._lock:
            run = RunDirectory(self.home / "begun" / "run")
            return (
                run if run.path.exists() else self.untracked(self.subject, "begun").train("--stop-after", "0")
            )

    def untracked(self, module: str, name: str) -> Subject:
        """A subject whose runs are not tracked by MLflow (that takes seconds, and only one gate looks at it)."""
        return Subject(module, self.home / name)

    def chance(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, from the session's seed."""
        return random.Random(f"{self.kill_seed}/{purpose}")


def all_jobs(site: Site) -> dict[str, Job]:
    """Name -> job, for every job there is."""
    jobs: dict[str, Job] = {
        "committed": partial(train_committed, site),
        "blind": partial(train_blind, site),
        "overlap": partial(train_on_overlap, site, site.subject, "overlap"),
        "manifest": partial(kill_at_first_step, site, site.subject, "manifest"),
        "guarded": partial(train_guarded, site, site.subject, "guarded"),
        "updates": partial(train_updates, site),
        "diverging": lambda: diverge(site, site.subject, "diverging", config_of(site.begun())),
        "tampered": lambda: tamper(site, site.subject, "tampered", config_of(site.begun()), torn.WAYS),
        "strength": partial(judge_mutants, site, strength.MODULE, "strength"),
        "resume": partial(train_short, site, site.subject, "resume", *RESUME),
        "resume/rerun": partial(train_short, site, site.subject, "rerun", *RESUME),
        "resume/kill-early": partial(kill_and_resume, site, "kill-early", KILL_EARLY),
        "resume/kill-late": partial(kill_and_resume, site, "kill-late", KILL_LATE),
        "resume/terminate": partial(terminate_and_resume, site),
        "control-reference": partial(uninterrupted_part, site),
        "control-followed": partial(follow_control, site, "control-followed", "impl", FOLLOWED_END),
    }
    jobs |= {f"resume/{name}": partial(stop_and_resume, site, name, stops) for name, stops in STOPS.items()}
    jobs |= {f"control/{wrong.name}": partial(control_work(wrong), site, wrong.name) for wrong in CONTROLS}
    return jobs


# The subject


def train_committed(site: Site) -> Committed:
    """The run of the definition of done: defaults, committed corpus, tracked by MLflow; and its answers afterwards."""
    subject = Subject(site.subject, site.home / "committed", env={})
    trained = watch(subject, files.COMMITTED)
    answers = probes.ask(subject, trained.run, site.committed)
    return Committed(trained, trained.run, answers, probes.ask_again(subject, trained.run))


def watch(subject: Subject, data: Path, *options: str) -> Trained:
    """Train, keeping what the manifest was when the first step was logged."""
    run = RunDirectory(subject.home / "run")
    arguments = ("train", "--out", str(run.path), "--data", str(data), *options)
    git, began = manifest.git_state(), datetime.now(UTC)
    process = subject.start(*arguments)
    process.wait_until(lambda: run.logged_steps() > 0)
    early = run.path / "manifest.json"
    seen = early.read_bytes() if early.exists() else None
    process.wait().succeeded()
    return Trained(run, arguments, data, seen, (git, manifest.git_state()), began, datetime.now(UTC))


def train_blind(site: Site) -> Blind:
    """Draw a split in made-up words from the session's seed, hand over its training part, train on that."""
    rows = [row for split in site.committed.values() for row in split]
    split = draw_blind(rows, site.blind_seed)
    data = site.home / "blind" / "data"
    files.write_directory(data, split.handed)
    subject = site.untracked(site.subject, "blind")
    return Blind(split, subject.train("--data", data))


def train_short(site: Site, module: str, name: str, *options: str) -> RunDirectory:
    """An untracked run from beginning to end."""
    return site.untracked(module, name).train(*options)


def train_on_overlap(site: Site, module: str, name: str, *options: str) -> tuple[Finished, RunDirectory]:
    """Train on a data directory with one training cell in val as well. The status is for the gate to judge."""
    subject = site.untracked(module, name)
    train, val = site.committed["train"], site.committed["val"]
    files.write_directory(subject.home / "data", {"train": train, "val": [*val, train[0]]})
    run = RunDirectory(subject.home / "run")
    return subject.run("train", "--out", run.path, "--data", subject.home / "data", *SHORT, *options), run


def kill_at_first_step(site: Site, module: str, name: str) -> RunDirectory:
    """SIGKILL as soon as the first step is in the log."""
    subject = site.untracked(module, name)
    if subject.interrupt(signal.SIGKILL, 1, *RESUME) is None:
        raise GateError("the run ended before its first step could be seen in train_log.jsonl")
    return RunDirectory(subject.home / "run")


def train_guarded(site: Site, module: str, name: str) -> tuple[RunDirectory, list[guarded.Report]]:
    """Steps, a save, a load, more steps and the end of a run, where unpickling raises."""
    home = site.home / name
    subject = Subject(module, home, env={**UNTRACKED, **guarded.environment(home / "guard")})
    subject.train("--steps", "4", "--stop-after", "2")
    run = subject.train("--steps", "4", "--resume")
    return run, guarded.read_reports(home / "guard")


# Updates


def train_updates(site: Site) -> Updates:
    """A run as by default, stopped before its first step; and one that is followed, from beginning to end."""
    begun = site.begun()
    return Updates(begun, follow(site, site.untracked(site.subject, "updates"), config_of(begun)))


def config_of(run: RunDirectory) -> str:
    return run.read("config.toml").decode()


def follow(site: Site, subject: Subject, config: str, *options: str) -> Followed:
    """Train with a checkpoint at every step, on few cells, with settings derived from those of `config`."""
    return followed(site, subject.train(*_followed(site, subject, config), *options))


def _followed(site: Site, subject: Subject, config: str, **changes: Any) -> tuple[str, ...]:
    """The options of such a run; its data and its configuration are written."""
    data, file = subject.home / "data", subject.home / "followed.toml"
    if not data.exists():
        files.write_directory(data, {name: site.committed[name][::n] for name, n in FEWER.items()})
    file.write_text(tomli_w.dumps(_asked(config, **changes)), encoding="utf-8")
    return "--data", str(data), "--config", str(file)


def _asked(config: str, **changes: Any) -> dict[str, Any]:
    """A run's settings, changed to be followed. `changes` are settings of the optimizer."""
    said = tomllib.loads(config)
    return said | FOLLOW | {"optimizer": said.get("optimizer", {}) | FOLLOW_OPTIMIZER | changes}


def followed(site: Site, run: RunDirectory) -> Followed:
    """A run that was told to be followed, with what it was told: if it did otherwise, it is wrong."""
    told = tomli_w.dumps(_asked(config_of(run)))
    rows = {name: site.committed[name][::n] for name, n in FEWER.items()}
    ruler = Ruler(rows["train"])
    return Followed(run, Course(Settings.read(told), ruler.train), ruler.sequences(rows["val"]))


def default_start(site: Site, begun: RunDirectory, first: RunDirectory) -> Followed:
    """The first update with the settings that the subject itself has chosen, of a run stopped after it."""
    settings = Settings.read(config_of(first))
    ruler = Ruler(site.committed["train"])
    return Followed(first, Course(settings, ruler.train), ruler.sequences(site.committed["val"]), begun)


def course_of(site: Site, run: RunDirectory) -> Course:
    """What a run on the committed corpus says that it follows."""
    return Course(Settings.read(config_of(run)), Ruler(site.committed["train"]).train)


def diverge(site: Site, module: str, name: str, config: str) -> tuple[Finished, RunDirectory]:
    """Train at a rate that makes the numbers overflow. The status is for the gate to judge."""
    subject, run = site.untracked(module, name), RunDirectory(site.home / name / "run")
    subject.home.mkdir(parents=True, exist_ok=True)
    rate = DIVERGE[tomllib.loads(config).get("dtype", "float32")]
    options = _followed(site, subject, config, peak_lr=rate, min_lr=rate, weight_decay=0.0)
    return subject.run("train", "--out", run.path, *options), run


def tamper(
    site: Site, module: str, name: str, config: str, ways: Mapping[str, Callable[[Path], None]]
) -> dict[str, torn.Resumed]:
    """Stop, do something to the newest checkpoint, resume; for each way to do something, from the same start."""
    subject = site.untracked(module, name)
    subject.home.mkdir(parents=True, exist_ok=True)
    options = _followed(site, subject, config)
    run = subject.train(*options, "--stop-after", str(TORN_AT))
    untouched = subject.home / "untouched"
    shutil.copytree(run.path, untouched)
    found = {}
    for way, harm in ways.items():
        harm(run.path / run.last_checkpoint())
        more = ("--resume", "--stop-after", str(TORN_END))
        finished = subject.run("train", "--out", run.path, *options, *more)
        found[way] = torn.Resumed(finished, RunDirectory(run.path.rename(subject.home / way)))
        shutil.copytree(untouched, run.path)
    return found


# Resume


def stop_and_resume(site: Site, name: str, stops: tuple[int, ...]) -> Interrupted:
    """Stop after each of the steps, then go on to the end."""
    subject = site.untracked(site.subject, name)
    stood = []
    for number, stop in enumerate(stops):
        again = ("--resume",) if number else ()
        run = subject.train(*RESUME, *again, "--stop-after", str(stop))
        stood.append(_stands(run))
    return Interrupted(subject.train(*RESUME, "--resume"), stood, " and ".join(f"stop {s}" for s in stops))


def kill_and_resume(site: Site, name: str, window: range) -> Interrupted:
    """SIGKILL at a random moment inside a window of log lines, then go on to the end."""
    chance = site.chance(name)
    for attempt in range(KILL_ATTEMPTS):
        lines = chance.choice(window)
        subject = site.untracked(site.subject, f"{name}-{attempt}")
        finished = subject.interrupt(signal.SIGKILL, lines, *RESUME)
        stood = [_stands(RunDirectory(subject.home / "run"))]
        if finished is not None and finished.status == -signal.SIGKILL and stood[0][0] <= window.stop:
            return Interrupted(subject.train(*RESUME, "--resume"), stood, f"SIGKILL at line {lines}")
    raise GateError(
        f"{KILL_ATTEMPTS} times the run had left steps {window.start} to {window.stop} before the signal"
    )


def terminate_and_resume(site: Site) -> Interrupted:
    """SIGTERM in the middle, which must end the run cleanly; then go on to the end."""
    subject = site.untracked(site.subject, "terminate")
    finished = subject.interrupt(signal.SIGTERM, TERMINATE, *RESUME)
    if finished is None:
        raise GateError(f"the run had ended before SIGTERM at step {TERMINATE}")
    finished.succeeded()
    stood = [_stands(RunDirectory(subject.home / "run"))]
    return Interrupted(subject.train(*RESUME, "--resume"), stood, f"SIGTERM at line {TERMINATE}")


def _stands(run: RunDirectory) -> tuple[int, list[int]]:
    return run.logged_steps(), list(run.checkpoints())


# The suite itself


def judge_mutants(site: Site, module: str, name: str) -> strength.Judged:
    """A quick check of the properties, on mutants drawn from the session's seed."""
    counts = site.home / name / "counts.json"
    options = ("--quick", "--seed", str(site.kill_seed), "--json", counts)
    return strength.read(site.untracked(module, name).run(*options), counts)


# Negative controls: subjects of our own that are wrong in one way


def module_of(control: str) -> str:
    """The module of a committed control."""
    return f"fixtures.controls.{control}"


def train_short_control(site: Site, name: str, *options: str) -> RunDirectory:
    """Two steps from beginning to end: enough for a fault that training does not cure."""
    return train_short(site, module_of(name), f"control-{name}", *(options or SHORT))


def train_longer_control(site: Site, name: str) -> RunDirectory:
    """Long enough to learn something, if only to copy: its own numbers say that it passes."""
    return train_short_control(site, name, *LONGER)


def uninterrupted_part(site: Site) -> RunDirectory:
    """What the interrupted controls must equal: the same steps of the loop they are derived from, in one go."""
    return train_short(site, "impl", "control-reference", *RESUME, "--stop-after", str(CONTROL_END))


def stop_and_resume_control(site: Site, name: str) -> RunDirectory:
    """Stopped once, resumed up to the step at which the reference stopped."""
    subject = site.untracked(module_of(name), f"control-{name}")
    subject.train(*RESUME, "--stop-after", str(CONTROL_STOP))
    return subject.train(*RESUME, "--resume", "--stop-after", str(CONTROL_END))


def train_twice(site: Site, name: str) -> tuple[RunDirectory, RunDirectory]:
    """The first steps of the same run, twice."""
    subject = site.untracked(module_of(name), f"control-{name}")
    options = (*RESUME, "--stop-after", "3")
    return subject.train(*options, out="first"), subject.train(*options, out="second")


def train_longer_and_ask(site: Site, name: str) -> tuple[RunDirectory, probes.Answers]:
    """A longer run and its answers to the probes."""
    subject = site.untracked(module_of(name), f"control-{name}")
    run = subject.train(*LONGER)
    return run, probes.ask(subject, run, site.committed)


def train_and_reload(site: Site, name: str) -> tuple[RunDirectory, np.ndarray]:
    """A short run and its live logits computed again."""
    subject = site.untracked(module_of(name), f"control-{name}")
    run = subject.train(*SHORT)
    return run, probes.ask_again(subject, run)


def follow_control(site: Site, name: str, module: str, stop: int) -> Followed:
    """Followed up to a step. What the settings do not say is impl's default."""
    return follow(site, site.untracked(module, name), "", "--stop-after", str(stop))


def follow_briefly(site: Site, name: str) -> Followed:
    """Just long enough for the check that must refuse it."""
    where = f"{control(name).gate}/{control(name).check}"
    stop = CONTROL_STEPS.get(name) or CONTROL_STEPS.get(where) or max(CONTROL_REPLAYED.get(name, (2,)))
    return follow_control(site, f"control-{name}", module_of(name), stop)


def follow_to_the_end(site: Site, name: str) -> Followed:
    return follow(site, site.untracked(module_of(name), f"control-{name}"), "")


def begin_twice(site: Site, name: str) -> tuple[RunDirectory, RunDirectory]:
    """Two seeds, both stopped before the first step."""
    subject = site.untracked(module_of(name), f"control-{name}")
    first, other = (
        subject.train("--seed", seed, "--stop-after", "0", out=f"seed-{seed}") for seed in ("0", "7")
    )
    return first, other


def judged_control(site: Site, name: str) -> strength.Judged:
    return judge_mutants(site, module_of(name), f"control-{name}")


def diverging_control(site: Site, name: str) -> tuple[Finished, RunDirectory]:
    return diverge(site, module_of(name), f"control-{name}", "")


def resume_followed(site: Site, name: str) -> tuple[RunDirectory, RunDirectory]:
    """Its own run in one go, and one that was stopped in the second epoch and resumed up to the same step."""
    subject = site.untracked(module_of(name), f"control-{name}")
    subject.home.mkdir(parents=True)
    options = _followed(site, subject, "")
    whole = subject.train(*options, "--stop-after", str(FOLLOWED_END), out="whole")
    stops = (3, FOLLOWED_STOP) if control(name).check == "twice" else (FOLLOWED_STOP,)
    for number, stop in enumerate((*stops, FOLLOWED_END)):
        again = ("--resume",) if number else ()
        run = subject.train(*options, *again, "--stop-after", str(stop))
    return whole, run


def tampered_control(site: Site, name: str) -> torn.Resumed:
    way = {"used": "changed", "torn": "torn"}[control(name).check]
    return tamper(site, module_of(name), f"control-{name}", "", {way: torn.WAYS[way]})[way]


def begin(site: Site, name: str) -> RunDirectory:
    """A run that stops before its first step: all that a manifest or data.json says is there."""
    return train_short_control(site, name, *SHORT, "--stop-after", "0")


def begin_and_save(site: Site, name: str) -> RunDirectory:
    """A run that stops after its first step, with a checkpoint."""
    return train_short_control(site, name, *SHORT, "--stop-after", "1")


def overlap_control(site: Site, name: str) -> RunDirectory:
    """Begun on overlapping splits without a word."""
    finished, run = train_on_overlap(site, module_of(name), f"control-{name}", "--stop-after", "0")
    finished.succeeded()
    return run


def kill_control(site: Site, name: str) -> RunDirectory:
    return kill_at_first_step(site, module_of(name), f"control-{name}")


def guarded_control(site: Site, name: str) -> tuple[Finished, list[guarded.Report]]:
    """A run that unpickles, where unpickling raises; it must break."""
    home = site.home / f"control-{name}"
    subject = Subject(module_of(name), home, env={**UNTRACKED, **guarded.environment(home / "guard")})
    finished = subject.run("train", "--out", home / "run", "--steps", "4", "--stop-after", "2")
    return finished, guarded.read_reports(home / "guard")


def tracked_control(site: Site, name: str) -> tuple[RunDirectory, str]:
    """A short run tracked in a store of its own, so that no false metrics reach the user's; and that store."""
    home = site.home / f"control-{name}"
    home.mkdir(parents=True)
    uri = f"sqlite:///{home}/mlflow.db"
    env = {"MLFLOW_TRACKING_URI": uri, "_MLFLOW_SERVER_ARTIFACT_ROOT": str(home / "artefacts")}
    return Subject(module_of(name), home, env={**UNDRAWN, **env}).train(*SHORT), uri


def nothing(site: Site, name: str) -> None:
    """This control is judged by its source alone."""


CONTROL_WORK: Mapping[str, Callable[..., Any]] = {
    "unshifted_targets": train_longer_control,
    "no_causal_mask": train_longer_and_ask,
    "saves_float16": train_and_reload,
    "pickle_in_checkpoint": begin_and_save,
    "swallows_overlap": overlap_control,
    "nondeterministic": train_twice,
    "manifest_last": kill_control,
    "wrong_commit": begin,
    "wrong_versions": begin,
    "smooths_metrics": tracked_control,
    "unpickles": guarded_control,
    "hidden_imports": nothing,
    **{f"forgets_{machine}": stop_and_resume_control for machine in MACHINES},
}
CHECK_WORK: Mapping[
    str, Callable[..., Any]
] = {  # what all controls of a check need, if nothing above says otherwise
    "update/init": begin_twice,
    **{f"update/{check}": follow_briefly for check in (*CHECKS_REPLAYED, "schedule", "data", "evaluation")},
    "update/cadence": follow_to_the_end,
    "update/finite": diverging_control,
    "strength/mutants": judged_control,
    "resume/mid-epoch": resume_followed,
    "resume/twice": resume_followed,
    "resume/used": tampered_control,
    "resume/torn": tampered_control,
}


def control_work(wrong: Control) -> Callable[..., Any]:
    """The job of a control."""
    by_check = CHECK_WORK.get(f"{wrong.gate}/{wrong.check}", train_short_control)
    return CONTROL_WORK.get(wrong.name, by_check)
