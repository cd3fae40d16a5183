"""Keep or discard: one run against the best so far, by bits per byte on the validation split.

The outer loop of autoresearch: try a change, keep it if the number is lower, else go back. Every try is a line of a
record, kept or not. Runs are compared only if they read the same data, by the same tokenizer, for the same number of
updates of the same batch size: a lower number is then due to what was changed.
"""

import json
import math
from pathlib import Path
from typing import Any

from impl.bits_per_byte import bits
from impl.errors import UsageError
from impl.report import finish
from impl.report.scores import nats_and_bytes
from impl.run import directory as runs
from impl.run.directory import Run
from impl.run.files import atomic_write

RECORD = "tries.jsonl"
BUDGET = ("steps", "batch_size")
"""Settings that say how much a run may read."""


def bits_per_byte(run: Run) -> float:
    """Of the finished run's model on its validation split."""
    model = finish.load_model(run)
    return bits(*nats_and_bytes(model, run, run.sequences["val"]))


def refuse_unequal(run: Run, best: Run) -> None:
    """UsageError that names the first of data, tokenizer and budget in which the runs differ."""
    ours, theirs = facts(run), facts(best)
    for name, value in ours.items():
        if value != theirs[name]:
            raise UsageError(f"{run.path} and {best.path}: the runs differ in {name}; nothing is compared")


def facts(run: Run) -> dict[str, Any]:
    """What must be equal in two runs that are compared."""
    told = {"data": run.manifest.corpus, "tokenizer": run.manifest.tokenizer_sha256}
    return told | {name: getattr(run.config, name) for name in BUDGET}


def compare(run: Path, best: Path, record: Path | None = None) -> dict[str, Any]:
    """The line that is added to the record: both numbers, and whether the run is kept.

    `record` is by default tries.jsonl beside the best run. Equal numbers are discarded: nothing was gained. UsageError
    if one is not finished, if they cannot be compared, or if this run has been recorded before.
    """
    tried, champion = (_finished(path) for path in (run, best))
    refuse_unequal(tried, champion)
    path = record or best.absolute().parent / RECORD
    lines = read(path)
    if any(line["run_id"] == tried.manifest.run_id for line in lines):
        raise UsageError(f"{path}: the run {tried.manifest.run_id} is recorded already")
    new, old = bits_per_byte(tried), bits_per_byte(champion)
    line = {
        "run": str(run),
        "run_id": tried.manifest.run_id,
        "best": str(best),
        "best_run_id": champion.manifest.run_id,
        "bits_per_byte": new,
        "best_bits_per_byte": old,
        "hex": {"bits_per_byte": new.hex(), "best_bits_per_byte": old.hex()},
        "changed": changed(tried, champion),
        "verdict": "keep" if math.isfinite(new) and new < old else "discard",
    }
    atomic_write(path, "".join(json.dumps(each) + "\n" for each in [*lines, line]).encode())
    return line


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a record, none if there is no file. UsageError for one that is not JSON."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise UsageError(f"{path}: not lines of JSON ({error})") from None


def changed(run: Run, best: Run) -> dict[str, list[Any]]:
    """Setting -> [of the best, of the run], where they differ."""
    ours, theirs = (flat(r.config.as_dict()) for r in (run, best))
    return {name: [theirs[name], ours[name]] for name in ours if ours[name] != theirs[name]}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of sections under dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _finished(path: Path) -> Run:
    run = runs.reopen(path)
    if not run.finished:
        raise UsageError(f"{path}: not finished; continue it with train --resume")
    return run
