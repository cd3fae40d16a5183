"""Checks of the resume gate on checkpoints that were tampered with: is the newest one used, and only if it is whole?

A subject that notices either change, and refuses to resume or takes an older checkpoint, is right. One that goes on
from a changed but consistent checkpoint as if it had not changed did not read it; one that goes on from a torn one as
if it were whole did not look.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gates.judge import difference
from gates.subject import tensors
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from gates.verdict.finding import Finding, Problem, no_problems

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"


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


def tear(checkpoint: Path) -> None:
    """The second half of the weights is zeros: what a crash leaves where the file's length was written before it."""
    path = checkpoint / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


WAYS: Mapping[str, Callable[[Path], None]] = {"changed": change, "torn": tear}


def used(whole: RunDirectory, resumed: Resumed, at: int) -> Finding:
    """The steps after a changed checkpoint are not those of the run that was not changed."""
    lines = resumed.run.log_lines
    problems = []
    if resumed.finished.status == 0:
        if len(lines) <= at:
            problems.append(Problem("a resumed run made no step", f"{len(lines)} lines", f"more than {at}"))
        elif lines == whole.log_lines[: len(lines)]:
            story = f"resumed from a changed checkpoint of step {at}, yet the run is as if it had not changed"
            problems.append(Problem(story, "the checkpoint was not used", "steps that follow from it"))
    return no_problems("resume/used", problems, of=f"status {resumed.finished.status}, {len(lines)} lines")


def not_used(whole: RunDirectory, resumed: Resumed, at: int) -> Finding:
    """From a torn checkpoint nobody resumes: the run is refused, or goes on from an older one to the same bytes."""
    problems = []
    if resumed.finished.status == 0:
        lines, expected = resumed.run.log_lines, whole.log_lines
        same = lines == expected[: len(lines)] and len(lines) > at
        found = None if same else difference.between(whole, resumed.run)
        if not same:
            story = f"resumed from a torn checkpoint of step {at}" + (f": {found}" if found else "")
            problems.append(Problem(story, "it was used as it is", "a refusal, or an older checkpoint"))
    return no_problems("resume/torn", problems, of=f"status {resumed.finished.status}")
