"""Where two runs that must be identical first differ: step, state machine, tensor, index, and how many ulps.

The five state machines leave three files in a checkpoint: the model is `weights.safetensors`, the optimizer's moments
are `optimizer.safetensors`, and the counters of the optimizer, scheduler, data iterator and control RNG are the
`machines` of `state.json`. A loop that keeps more (an average of the weights, say) has a machine more, with arrays in
`NAME.safetensors`. One machine that was not restored soon changes the tensors of the others, but not their
counters; so the counters are compared first, then the lines of the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gates.judge import scoring
from gates.subject import tensors
from gates.subject.run_directory import RunDirectory
from reference import model

MACHINES = ("model", "optimizer", "scheduler", "data", "control")
FILES = ("weights.safetensors", "optimizer.safetensors", "state.json")
SHAPES = model.parameter_shapes(scoring.CONFIG)
# What a log line says first about each machine; the loss of a step is taken before the step's update.
LOG_FIELDS = {
    "step": "scheduler",
    "lr": "scheduler",
    "epoch": "data",
    "tokens": "data",
    "loss": "model",
    "grad_norm": "model",
}


@dataclass(frozen=True)
class Difference:
    """The first difference between a run and the one it must equal."""

    step: int
    machine: str
    place: str
    got: str
    expected: str
    ulps: int | None = None

    def __str__(self) -> str:
        gap = "" if self.ulps is None else f", {self.ulps} ulp apart"
        return f"first differing step {self.step}, machine {self.machine}, {self.place}{gap}"


def between(expected: RunDirectory, got: RunDirectory, *, resumed_at: int | None = None) -> Difference | None:
    """The first difference of `got` from `expected`, or None when every byte that must agree does.

    Compared are every log line, every checkpoint at a step that both have (weights, moments, state machines, byte for
    byte), the last checkpoint's step, and the final model file if both runs are finished. `resumed_at` is the step
    after which `got` was interrupted; it tells a lost model from lost moments.
    """
    line = _first_line(expected, got)
    common = [step for step in expected.checkpoints() if step in got.checkpoints()]
    if not common:
        old, new = (str(list(run.checkpoints())) for run in (expected, got))
        return Difference(0, "model", "no step at which both runs have a checkpoint", new, old)
    for step in common:
        found = _in_checkpoint(expected, got, step, line, resumed_at)
        if found:
            return found
    if line:
        return line
    ends = [max(run.checkpoints(), default=0) for run in (expected, got)]
    if ends[0] != ends[1]:
        return Difference(min(ends) + 1, "model", "the last checkpoint", f"step {ends[1]}", f"step {ends[0]}")
    if (expected.path / "models").exists() and expected.model_name != got.model_name:
        return Difference(ends[0], "model", "the name of the model file", got.model_name, expected.model_name)
    return None


def missing_state(run: RunDirectory) -> str | None:
    """What a checkpoint of the run lacks, or None: two runs that save nothing agree about it too.

    Each has every parameter, two moments a parameter, each of its shape, and something of the four other machines.
    """
    for step, folder in run.checkpoints().items():
        weights, moments = (run.tensors(f"{folder}/{name}") for name in FILES[:2])
        state = run.json(f"{folder}/state.json")
        lack = (
            _lacking(weights, SHAPES)
            or _lacking(moments, {f"{kind}.{name}": shape for kind in "mv" for name, shape in SHAPES.items()})
            or (_all_zero(moments) if step > 0 else None)
            or _without_state(state)
        )
        if lack:
            return f"{folder}: {lack}"
    return None


def _without_state(state: Any) -> str | None:
    """A machine that keeps nothing, where a loop tells its machines apart; or a state.json that does."""
    if not isinstance(state, dict) or not state:
        return "state.json keeps nothing"
    machines = state.get("machines")
    if not isinstance(machines, dict):
        return None
    return next((f"machine {name} has no state" for name in MACHINES[1:] if not machines.get(name)), None)


def _lacking(found: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape:
            return f"tensor {name} is not there in the shape {list(shape)}"
    return None


def _all_zero(moments: Mapping[str, np.ndarray]) -> str | None:
    for kind in "mv":
        if not any(tensor.any() for name, tensor in moments.items() if name.startswith(f"{kind}.")):
            return f"every moment {kind} is zero after a step"
    return None


def compared_bytes(expected: RunDirectory, got: RunDirectory) -> int:
    """How many bytes `between` has looked at, so that an empty comparison is visible."""
    common = [step for step in expected.checkpoints() if step in got.checkpoints()]
    folders = [got.checkpoints()[step] for step in common]
    files = [got.read(f"{folder}/{name}") for folder in folders for name in (*FILES, *_more(got, folder))]
    return sum(map(len, files)) + sum(map(len, got.log_lines))


def _more(run: RunDirectory, folder: str) -> list[str]:
    """The names of the tensor files of a checkpoint beside the two that each has."""
    names = {name for name in run.names(folder) if name.endswith(".safetensors")}
    return sorted(names - set(FILES))


def _first_line(expected: RunDirectory, got: RunDirectory) -> Difference | None:
    for old, new in zip(expected.log, got.log, strict=False):
        if old != new:
            name = next(field for field in (*LOG_FIELDS, *old, *new) if old.get(field) != new.get(field))
            machine = LOG_FIELDS.get(name, "model")
            a, b = new.get(name), old.get(name)
            ulps = None
            if isinstance(a, float) and isinstance(b, float):
                ulps = tensors.ulps_apart(a, b, np.dtype(float))
            return Difference(old["step"], machine, f"log field {name}", repr(a), repr(b), ulps)
    for number, (old_line, new_line) in enumerate(zip(expected.log_lines, got.log_lines, strict=False), 1):
        if old_line != new_line:
            return Difference(number, "model", "bytes of the log line", repr(new_line), repr(old_line))
    if len(expected.log_lines) != len(got.log_lines):
        lengths = [len(run.log_lines) for run in (got, expected)]
        return Difference(min(lengths) + 1, "data", "the log", f"{lengths[0]} lines", f"{lengths[1]} lines")
    return None


def _in_checkpoint(
    expected: RunDirectory, got: RunDirectory, step: int, line: Difference | None, resumed_at: int | None
) -> Difference | None:
    """First difference of the two checkpoints of one step, with the state machine that most likely caused it."""
    folders = [run.checkpoints()[step] for run in (expected, got)]
    differing = [
        name for name in FILES if expected.read(f"{folders[0]}/{name}") != got.read(f"{folders[1]}/{name}")
    ]
    if not differing:
        return _in_more_machines(expected, got, folders, step)
    first_step = min(step, line.step) if line else step
    counters = _counters(
        *(_machines(run.json(f"{f}/state.json")) for run, f in zip((expected, got), folders, strict=True))
    )
    tensor = next(filter(None, (_in_tensors(expected, got, folders, name) for name in FILES[:2])), None)
    if line and line.machine == "scheduler":
        # The scheduler counts the steps of the loop, so a run that lost it goes on too long and ends in step.
        place = f"{line.place}, {tensor[0]}" if tensor else line.place
        return replace(line, place=place, ulps=tensor[3] if tensor else None)
    if counters:
        machine, place, new, old = counters[0]
        also = "".join(f", also {other[1]}" for other in counters[1:])
        where = f"{place}{also}" + (f", {tensor[0]}" if tensor else "")
        return Difference(first_step, machine, where, repr(new), repr(old), tensor[3] if tensor else None)
    if tensor is None:
        return _in_the_rest(expected, got, folders, first_step) or Difference(
            first_step, "model", f"bytes of {differing[0]}", "other bytes", "equal bytes"
        )
    place, new, old, ulps = tensor
    if FILES[0] not in differing and step < (line.step if line else step + 1):
        return Difference(step, "optimizer", place, new, old, ulps)
    machine = "model"
    if line:
        # The first loss after a resume depends on the weights, not on the moments.
        lost_moments = resumed_at is not None and line.machine == "model" and line.step > resumed_at + 1
        machine = "optimizer" if lost_moments else line.machine
        place = f"{line.place}, {place}"
    elif "weights" not in differing[0]:
        machine = "optimizer"
    return Difference(first_step, machine, place, new, old, ulps)


def _in_more_machines(
    expected: RunDirectory, got: RunDirectory, folders: list[str], step: int
) -> Difference | None:
    """First difference of the tensors of machines beside the five, where all of the five agree."""
    names = [_more(run, folder) for run, folder in zip((expected, got), folders, strict=True)]
    for name in dict.fromkeys([*names[0], *names[1]]):
        machine = name.removesuffix(".safetensors")
        if not all(name in there for there in names):
            said = ["no such file" if name not in there else "a file" for there in names]
            return Difference(step, machine, f"{folders[1]}/{name}", said[1], said[0])
        if expected.read(f"{folders[0]}/{name}") != got.read(f"{folders[1]}/{name}"):
            found = _in_tensors(expected, got, folders, name)
            return Difference(step, machine, *(found or (f"bytes of {name}", "other bytes", "equal bytes")))
    return None


def _in_the_rest(
    expected: RunDirectory, got: RunDirectory, folders: list[str], step: int
) -> Difference | None:
    """What state.json keeps beside the machines: the best evaluation so far, for example."""
    old, new = (
        {k: v for k, v in run.json(f"{folder}/state.json").items() if k not in ("machines", "log")}
        for run, folder in zip((expected, got), folders, strict=True)
    )
    leaf = _first_leaf(old, new, "state.json")
    return leaf and Difference(step, "loop", leaf[0], repr(leaf[1]), repr(leaf[2]))


def _machines(state: Any) -> dict[str, Any]:
    """State by machine; of a loop that does not tell its machines apart, by its own names, without the log's place."""
    if isinstance(machines := state.get("machines"), dict):
        return machines
    return {name: value for name, value in state.items() if name != "log"}


def _counters(expected: dict[str, Any], got: dict[str, Any]) -> list[tuple[str, str, Any, Any]]:
    """(machine, place, got, expected) of the first differing leaf of each machine in state.json."""
    found = []
    for machine in dict.fromkeys([*MACHINES, *expected, *got]):
        leaf = _first_leaf(expected.get(machine), got.get(machine), machine)
        if leaf:
            found.append((machine, *leaf))
    return found


def _first_leaf(expected: Any, got: Any, place: str) -> tuple[str, Any, Any] | None:
    if isinstance(expected, dict) and isinstance(got, dict):
        pairs = ((key, expected.get(key), got.get(key)) for key in dict.fromkeys([*expected, *got]))
        return next(filter(None, (_first_leaf(old, new, f"{place}.{key}") for key, old, new in pairs)), None)
    return None if expected == got else (place, got, expected)


def _in_tensors(
    expected: RunDirectory, got: RunDirectory, folders: list[str], name: str
) -> tuple[str, str, str, int | None] | None:
    """(place, got, expected, ulps) of the first element that differs in one tensor file."""
    old_file, new_file = expected.tensors(f"{folders[0]}/{name}"), got.tensors(f"{folders[1]}/{name}")
    for tensor in dict.fromkeys([*old_file, *new_file]):
        old, new = old_file.get(tensor), new_file.get(tensor)
        if old is None or new is None or (old.dtype, old.shape) != (new.dtype, new.shape):
            return f"tensor {tensor}", _kind(new), _kind(old), None
        index = tensors.first_difference(old, new)
        if index is not None:
            a, b = float(new[index]), float(old[index])
            place = f"tensor {tensor}[{', '.join(map(str, index))}]"
            return place, a.hex(), b.hex(), tensors.ulps_apart(a, b, old.dtype)
    return None


def _kind(array: np.ndarray | None) -> str:
    return "no such tensor" if array is None else f"{array.dtype} {list(array.shape)}"
