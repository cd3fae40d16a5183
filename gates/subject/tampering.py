"""Checkpoints that are changed or corrupted between a stop and a resume, and what the resumed run became."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gates.subject import tensors
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from gates.subject.session import Session
from gates.subject.stepwise_runs import stepwise_options

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
STOP, END = 4, 6  # the run is stopped after one update, and resumed up to the other


@dataclass(frozen=True)
class Resumed:
    """How resuming after the change ended, and what the run became."""

    finished: Finished
    run: RunDirectory


def change(checkpoint: Path) -> None:
    """Other weights, and the digest that belongs to them: nothing is wrong with this checkpoint."""
    found = dict(tensors.read((checkpoint / WEIGHTS).read_bytes()))
    found["E"] = found["E"] * np.asarray(0.5, found["E"].dtype)
    data = tensors.write(found)
    (checkpoint / WEIGHTS).write_bytes(data)
    manifest = json.loads((checkpoint / MANIFEST).read_bytes())
    manifest["files"][WEIGHTS] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (checkpoint / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def corrupt(checkpoint: Path) -> None:
    """The second half of the weights is zeros: what a crash leaves where the file's length was written before it."""
    path = checkpoint / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


WAYS: Mapping[str, Callable[[Path], None]] = {"changed": change, "corrupted": corrupt}


def tamper(session: Session, module: str, name: str, config: str, *ways: str) -> dict[str, Resumed]:
    """Stop, do something to the newest checkpoint, resume; for each way to do something, from the same start."""
    subject = session.untracked(module, name)
    options = stepwise_options(session, subject, config)
    run = session.warm(module, name).train(*options, "--stop-after", str(STOP))
    untouched = subject.home / "untouched"
    shutil.copytree(run.path, untouched)
    found = {}
    for way in ways:
        WAYS[way](run.path / run.last_checkpoint())
        more = ("--resume", "--stop-after", str(END))
        finished = subject.run("train", "--out", run.path, *options, *more)
        found[way] = Resumed(finished, RunDirectory(run.path.rename(subject.home / way)))
        shutil.copytree(untouched, run.path)
    return found
