"""Read a run directory, whoever wrote it, for the page that shows it; what is missing or broken is told, not raised."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from honestloop.guarded_files import UnreadableError, parse_json, printable, read_json, read_regular
from pages.run_data import RunData

LOG, MANIFEST, RESULTS, DRIFT, SAMPLES, EVALUATION = (
    "train_log.jsonl",
    "manifest.json",
    "results.json",
    "drift/drift_results.json",
    "samples.json",
    "evaluation.json",
)
LOG_LIMIT = 256 << 20
"""Bytes of a log."""
WANTED = (LOG, MANIFEST, RESULTS)
"""Files that a finished run has; the others are shown where they are."""


def read_run(run: Path, name: str = "", log: str = LOG, manifest: str = MANIFEST) -> RunData:
    """The values in the files of a run directory; `name` heads its page. Never raises because of what is there."""
    absent: list[str] = []
    found: dict[str, Any] = {}
    for field, file, kind in (
        ("manifest", manifest, dict),
        ("results", RESULTS, dict),
        ("drift", DRIFT, dict),
        ("samples", SAMPLES, list),
        ("evaluation", EVALUATION, dict),
    ):
        try:
            value = read_json(run / file, within=run)
        except UnreadableError as error:
            if file in (manifest, RESULTS) or error.found != "no such file":
                absent.append(f"{file}: {error.found}")
            continue
        if isinstance(value, kind):
            found[field] = value
        else:
            absent.append(f"{file}: found {type(value).__name__}, expected {kind.__name__}")
    lines = list(_lines(run, log, absent))
    return RunData(name or run.absolute().name, log=lines, absent=tuple(map(printable, absent)), **found)


def _lines(run: Path, name: str, absent: list[str]) -> Iterator[Mapping[str, Any]]:
    """The lines of the log that are objects; how many are not is told once."""
    try:
        data = read_regular(run / name, LOG_LIMIT, within=run)
    except UnreadableError as error:
        absent.append(f"{name}: {error.found}")
        return
    wrong: list[int] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        value = _value(line, run / name)
        if isinstance(value, dict):
            yield value
        elif line.strip():
            wrong.append(number)
    if wrong:
        many = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        absent.append(f"{name}: line {wrong[0]}{many}: no JSON object")


def _value(line: bytes, path: Path) -> Any:
    try:
        return parse_json(line, path) if len(line) > 1 << 16 else json.loads(line)
    except (UnreadableError, ValueError, RecursionError):
        return None
