"""What a run of level 2 left: its log, its manifest, and of each checkpoint the weights and both moments by name."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.subject.run_directory import RunDirectory
from honestloop.description import Layout

STEP = re.compile(r"\{step(?::0?(\d+)d)?\}")


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint: every parameter, and its moments where it has any, by name."""

    step: int
    p: Mapping[str, np.ndarray]
    m: Mapping[str, np.ndarray]
    v: Mapping[str, np.ndarray]
    t: int | None = None
    """Number of updates made, as the optimizer counts them; None if it is not kept."""


@dataclass(frozen=True)
class RecordedDirectory:
    """A run directory in the layout that a subject describes. Every reader raises GateError, naming the file."""

    path: Path
    layout: Layout = field(default_factory=Layout)

    @property
    def files(self) -> RunDirectory:
        return RunDirectory(self.path, forms={})

    @cached_property
    def log_lines(self) -> list[bytes]:
        """Lines of the log, as bytes."""
        return self.files.read(self.layout.log).splitlines()

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Lines of the log, parsed: JSON objects, which may hold NaN and Infinity (judged elsewhere)."""
        found = []
        for number, line in enumerate(self.log_lines, 1):
            try:
                said = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise GateError(f"{self.layout.log}: line {number} is not valid JSON ({error})") from None
            if not isinstance(said, dict):
                raise GateError(f"{self.layout.log}: line {number} is not a JSON object")
            found.append(said)
        return found

    @cached_property
    def by_step(self) -> dict[int, dict[str, Any]]:
        """Step -> its line; of several lines of a step the last."""
        return {line["step"]: line for line in self.log if isinstance(line.get("step"), int)}

    @cached_property
    def manifest(self) -> dict[str, Any]:
        said = self.files.json(self.layout.manifest)
        if not isinstance(said, dict):
            raise GateError(f"run directory: {self.layout.manifest} is not a JSON object")
        return said

    @property
    def config(self) -> Mapping[str, Any]:
        """The object `config` of the manifest; empty if there is none."""
        said = self.manifest.get("config", {})
        return said if isinstance(said, dict) else {}

    @property
    def results(self) -> Mapping[str, Any]:
        """results.json; empty if there is none."""
        if not (self.path / "results.json").exists():
            return {}
        try:  # not as `files` reads it: it need not be a results.json of phase 18
            said = json.loads(self.files.read("results.json"))
        except (ValueError, RecursionError) as error:
            raise GateError(f"run directory: results.json is not valid JSON ({error})") from None
        return said if isinstance(said, dict) else {}

    def checkpoints(self) -> dict[int, Path]:
        """Step -> folder of each checkpoint, in order; temporary names do not match and do not count."""
        parent, _, name = self.layout.checkpoints.rpartition("/")
        placed = STEP.search(name)
        if placed is None:
            raise GateError(
                f"[run] checkpoints = {self.layout.checkpoints!r} has no {{step}} in its last part"
            )
        digits = rf"(\d{{{placed[1]},}})" if placed[1] else r"(\d+)"
        pattern = re.compile(re.escape(name[: placed.start()]) + digits + re.escape(name[placed.end() :]))
        folder = self.path / parent
        found = {
            int(match[1]): path
            for path in (folder.iterdir() if folder.is_dir() else ())
            if (match := pattern.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()
        }
        return dict(sorted(found.items()))

    def tensors(self, step: int, file: str) -> dict[str, np.ndarray]:
        """The tensors of a file of a checkpoint."""
        folder = self.checkpoints().get(step)
        if folder is None:
            raise GateError(f"run directory: there is no checkpoint of step {step}")
        return self.files.tensors(str((folder / file).relative_to(self.path)))

    def snapshot(self, step: int) -> Snapshot:
        """A checkpoint. What is not of a floating-point type is no parameter and is left out."""
        layout = self.layout
        weights, kept = (self.tensors(step, file) for file in (layout.weights, layout.optimizer))
        m, v = _named(kept, layout.m), _named(kept, layout.v)
        moments = {layout.m.format(name=n) for n in m} | {layout.v.format(name=n) for n in v} | {"t"}
        same = layout.weights == layout.optimizer
        p = {n: x for n, x in weights.items() if x.dtype.kind == "f" and not (same and n in moments)}
        t = kept.get("t")
        return Snapshot(step, p, m, v, None if t is None or t.size != 1 else int(t.reshape(())))


def _named(tensors: Mapping[str, np.ndarray], pattern: str) -> dict[str, np.ndarray]:
    """Parameter -> tensor, of those whose names are of the pattern, as `m.{name}`."""
    before, _, after = pattern.partition("{name}")
    return {
        name[len(before) : len(name) - len(after)]: x
        for name, x in tensors.items()
        if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
    }
