"""`honestloop check-run DIR`: is this a run directory? Nothing is started, nothing is recomputed; it takes seconds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from honestloop.guarded_files import UnreadableError, read_json, read_toml
from honestloop.run_check import checkpoints, files, log
from honestloop.run_check.complaint import CHECKED, Complaint, deviating, unreadable
from honestloop.schemas import deviations

__all__ = ["CHECKED", "LEVELS", "Complaint", "Report", "check_run"]

LEVELS = ("record", "phase18")
MOST = 100
"""Complaints that are made; nobody reads more."""
AT_MOST_OF_A_FILE = 10
PHASE_18_FILES = {
    "config.toml": "phase18_config",
    "data.json": "phase18_data",
    "tokenizer.json": "phase18_tokenizer",
    "drift/drift_results.json": "phase18_drift_results",
}


@dataclass
class Report:
    """What was found: the level it was held to, complaints, and how much was looked at."""

    level: str
    complaints: list[Complaint] = field(default_factory=list)
    updates: int = 0
    saved: int = 0
    more: bool = False
    """Whether there are complaints that are not listed."""

    def __str__(self) -> str:
        looked = f"{self.updates} updates, {self.saved} checkpoints"
        more = "more than " if self.more else ""
        return f"run directory of level {self.level}: {looked}: {more}{len(self.complaints)} complaints"


def check_run(run: Path, level: str | None = None) -> Report:
    """Judge one run directory by its files alone.

    `level`: "record" or "phase18"; by default what its manifest says that it is. NotADirectoryError if there is none.
    """
    if not run.is_dir():
        raise NotADirectoryError(f"{run}: no such folder")
    manifest, said = _file(run, "manifest.json", None)
    phase18 = level == "phase18" or (level is None and said.get("schema") == "honestloop/manifest/v1")
    report = Report("phase18" if phase18 else "record")
    prefix = "phase18_" if phase18 else ""
    read = log.Log()
    counts: dict[str, int] = {}
    for complaint in islice(_complaints(run, prefix, manifest, said, read), 10 * MOST):
        name = complaint.file.partition(":")[0]
        counts[name] = counts.get(name, 0) + 1
        report.more = report.more or counts[name] > AT_MOST_OF_A_FILE or len(report.complaints) >= MOST
        if len(report.complaints) >= MOST:
            break
        if counts[name] <= AT_MOST_OF_A_FILE:
            report.complaints.append(complaint)
    report.updates, report.saved = read.steps, _saved(run)
    return report


def _complaints(
    run: Path, prefix: str, manifest: list[Complaint], said: dict[str, Any], read: log.Log
) -> Iterator[Complaint]:
    yield from manifest
    if not manifest:
        yield from (deviating("manifest.json", d) for d in deviations(f"{prefix}manifest", said))
    yield from log.check(run, f"{prefix}train_log", read)
    yield from checkpoints.check(run, prefix, read)
    finished = (run / "results.json").exists()
    config = said.get("config")
    yield from checkpoints.cadence(run, config if isinstance(config, dict) else {}, read, finished=finished)
    if finished:
        yield from _file(run, "results.json", f"{prefix}results")[0]
    for name, schema in PHASE_18_FILES.items() if prefix else ():
        if finished or not name.startswith("drift/"):
            yield from _file(run, name, schema)[0]
    yield from files.check(run, allowed_formats_only=bool(prefix))


def _file(run: Path, name: str, schema: str | None) -> tuple[list[Complaint], dict[str, Any]]:
    """(complaints, value) of a file that is one object; {} if it cannot be read."""
    try:
        value = (read_toml if name.endswith(".toml") else read_json)(run / name, within=run)
    except UnreadableError as error:
        return [unreadable(name, error)], {}
    found = [deviating(name, deviation) for deviation in deviations(schema, value)] if schema else []
    return found, value if isinstance(value, dict) else {}


def _saved(run: Path) -> int:
    try:
        return len(checkpoints.steps(run))
    except UnreadableError:
        return 0
