"""The checkpoints of a run: digests, state, tensors by name, and whether they fit the log."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gates.subject import tensors
from honestloop.guarded_files import UnreadableError, names_in, open_regular, read_json, sha256_regular
from honestloop.run_check.complaint import CADENCE, CHECKPOINT, Complaint, deviating, unreadable
from honestloop.run_check.log import Log
from honestloop.schemas import deviations

FOLDER = "checkpoints"
NAME = re.compile(r"step-([0-9]{8,})")
WEIGHTS, OPTIMIZER, STATE, MANIFEST = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
FILE_LIMIT = 16 << 30
"""Bytes of one file of a checkpoint."""
FLOATS = ("F16", "BF16", "F32", "F64")

Headers = dict[str, tensors.Entry]


def steps(run: Path) -> list[int]:
    """Steps of the checkpoints, ascending. UnreadableError if their folder is none."""
    return sorted(int(found[1]) for name in names_in(run / FOLDER) if (found := NAME.fullmatch(name)))


def check(run: Path, prefix: str, log: Log) -> Iterator[Complaint]:
    """Complaints about every checkpoint; `prefix` of the names of its schemas: "" or "phase18_"."""
    try:
        found = steps(run)
    except UnreadableError as error:
        yield unreadable(FOLDER, error, CHECKPOINT)
        return
    if not found:
        yield Complaint(
            FOLDER, "", "no checkpoint", "a folder step-00000010 for each that was saved", CHECKPOINT
        )
    weights: Headers = {}
    for step in found:
        folder = f"{FOLDER}/step-{step:08d}"
        yield from _digests(run, folder, prefix)
        yield from _state(run, folder, prefix, step, log)
        here = yield from _tensors(run, folder, every=bool(prefix))
        for name in sorted(weights.keys() ^ here.keys() if weights and here else ()):
            words = ("no tensor", "the tensor of the checkpoint before")
            found_, expected = (
                words if name in weights else ("a new tensor", "the tensors of the checkpoint before")
            )
            yield Complaint(f"{folder}/{WEIGHTS}", name, found_, expected, CHECKPOINT)
        weights = here or weights


def cadence(run: Path, config: Mapping[str, Any], log: Log, *, finished: bool) -> Iterator[Complaint]:
    """What should have been saved and evaluated by now, by checkpoint_every and eval_every of the configuration."""
    try:
        saved = steps(run)
    except UnreadableError:
        return
    for key, what, there in (
        ("checkpoint_every", FOLDER, saved),
        ("eval_every", "train_log.jsonl: val_loss", log.evaluated),
    ):
        every = config.get(key)
        if type(every) is int and every > 0:
            due = set(range(every, log.steps + 1, every)) | ({log.steps} if finished and log.steps else set())
            if missing := sorted(due - set(there)):
                more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
                expected = f"one every {every} steps and of the last (config.{key})"
                yield Complaint(what, "", f"none of step {missing[0]}{more}", expected, CADENCE)
    if saved and saved[-1] > log.steps:
        yield Complaint(
            FOLDER, "", f"one of step {saved[-1]}", f"none after the log's {log.steps} lines", CADENCE
        )


def _digests(run: Path, folder: str, prefix: str) -> Iterator[Complaint]:
    """The manifest of a checkpoint has the digest of each other file in it."""
    file = f"{folder}/{MANIFEST}"
    try:
        value = read_json(run / file, within=run)
        there = set(names_in(run / folder)) - {MANIFEST}
    except UnreadableError as error:
        yield unreadable(file, error, CHECKPOINT)
        return
    wrong = list(deviations(f"{prefix}checkpoint_manifest", value))
    yield from (deviating(file, deviation) for deviation in wrong)
    if wrong:
        return
    listed = value["files"]
    for name in sorted({*there, WEIGHTS, OPTIMIZER, STATE} - listed.keys()):
        yield Complaint(file, f"files.{name}", "nothing", "the SHA-256 of the file", CHECKPOINT)
    for name, entry in listed.items():
        digest = entry if isinstance(entry, str) else entry["sha256"]
        if Path(name).name != name:
            yield Complaint(file, f"files.{name}", "a path", "a name in the folder", CHECKPOINT)
            continue
        try:
            real = sha256_regular(run / folder / name, FILE_LIMIT, within=run)
        except UnreadableError as error:
            yield unreadable(f"{folder}/{name}", error, CHECKPOINT)
            continue
        if real != digest:
            expected = f"{digest[:12]}..., as {MANIFEST} says"
            yield Complaint(f"{folder}/{name}", "sha256", f"{real[:12]}...", expected, CHECKPOINT)


def _state(run: Path, folder: str, prefix: str, step: int, log: Log) -> Iterator[Complaint]:
    file = f"{folder}/{STATE}"
    try:
        value = read_json(run / file, within=run)
    except UnreadableError as error:
        yield unreadable(file, error, CHECKPOINT)
        return
    wrong = list(deviations(f"{prefix}checkpoint_state", value))
    yield from (deviating(file, deviation) for deviation in wrong)
    if wrong:
        return
    if value["step"] != step:
        yield Complaint(file, "step", str(value["step"]), f"{step}, as in the folder's name", CHECKPOINT)
    said = value.get("log", {})
    if "bytes" in said and "sha256" in said and not log.starts_with(said["bytes"], said["sha256"]):
        expected = f"the log's first {said['bytes']} bytes"
        yield Complaint(file, "log.sha256", "the digest of another log", expected, CHECKPOINT)


def _tensors(run: Path, folder: str, *, every: bool) -> Any:
    """Complaints about the two files of tensors; returns the header of the weights.

    `every`: each parameter must have moments; without it, one that is not trained has none.
    """
    headers: list[Headers] = []
    for name in (WEIGHTS, OPTIMIZER):
        try:
            headers.append(header(run / folder / name, run))
        except UnreadableError as error:
            yield unreadable(f"{folder}/{name}", error, CHECKPOINT)
    if len(headers) < 2:
        return {}
    weights, moments = headers
    for name, entry in weights.items():
        if entry.dtype not in FLOATS:
            yield Complaint(
                f"{folder}/{WEIGHTS}", name, entry.dtype, f"one of {', '.join(FLOATS)}", CHECKPOINT
            )
    if not weights:
        yield Complaint(f"{folder}/{WEIGHTS}", "", "no tensors", "every parameter by name", CHECKPOINT)
    trained = [name for name in weights if every or f"m.{name}" in moments or f"v.{name}" in moments]
    if not trained:
        yield Complaint(
            f"{folder}/{OPTIMIZER}", "", "no moments", "m.NAME and v.NAME of each parameter", CHECKPOINT
        )
    for name in trained:
        for kind in ("m", "v"):
            found = moments.get(f"{kind}.{name}")
            shape = weights[name].shape
            if found is None or found.shape != shape:
                said = "nothing" if found is None else f"shape {list(found.shape)}"
                expected = f"a moment of shape {list(shape)}, that of the parameter"
                yield Complaint(f"{folder}/{OPTIMIZER}", f"{kind}.{name}", said, expected, CHECKPOINT)
    for key in moments:
        kind, _, name = key.partition(".")
        if kind in ("m", "v") and name not in weights:
            yield Complaint(
                f"{folder}/{OPTIMIZER}", key, "a moment", "only moments of parameters", CHECKPOINT
            )
    return weights


def header(path: Path, run: Path) -> Headers:
    """What a safetensors file says of each tensor; only its header is read. UnreadableError if it is none."""
    with open_regular(path, FILE_LIMIT, within=run) as file:
        start = file.read(8)
        head = file.read(min(int.from_bytes(start, "little"), tensors.MAX_HEADER))
        size = file.seek(0, 2)
    try:
        return tensors.entries(start + head, size)
    except tensors.TensorFileError as error:
        raise UnreadableError(path, str(error), "a safetensors file") from None
