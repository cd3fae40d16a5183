"""A process in which unpickling raises: how to start one, and what it reports."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from gates.subject.process import UNTRACKED, Subject

GUARD = Path(__file__).with_name("guard")


@dataclass(frozen=True)
class Report:
    """What one guarded process said: which caller it let through how often, and what it refused."""

    excepted: dict[str, int]
    refused: list[str]


def guarded(module: str, home: Path) -> Subject:
    """A subject whose processes, and their children, are guarded."""
    (home / "guard").mkdir(parents=True, exist_ok=True)
    path = [str(GUARD), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(path), "HONESTLOOP_GUARD": str(home / "guard")}
    return Subject(module, home, env={**UNTRACKED, **environment})


def read_reports(subject: Subject) -> list[Report]:
    """One report for each process that was guarded."""
    said = [json.loads(path.read_bytes()) for path in sorted((subject.home / "guard").glob("*.json"))]
    return [Report(report["excepted"], report["refused"]) for report in said if report["armed"]]
