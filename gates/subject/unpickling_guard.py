"""A process in which unpickling raises: how to start one, and what it reports."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from gates.subject.process import UNTRACKED, Subject
from gates.subject.session import Session

GUARD = Path(__file__).with_name("unpickling_forbidden")


@dataclass(frozen=True)
class Report:
    """What one guarded process said: which caller it let through how often, and what it refused."""

    excepted: dict[str, int]
    refused: list[str]


def guarded(session: Session, module: str, name: str) -> tuple[Subject, Path]:
    """A subject whose processes are guarded, and where they report."""
    reports = session.home / name / "guard"
    return session.started(module, name, env={**UNTRACKED, **environment(reports)}), reports


def environment(directory: Path) -> dict[str, str]:
    """Variables that put the guard into a Python process and into its children; they report to the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    path = [str(GUARD), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "HONESTLOOP_GUARD": str(directory)}


def read_reports(directory: Path) -> list[Report]:
    """One report for each process that was guarded."""
    said = [json.loads(path.read_bytes()) for path in sorted(directory.glob("*.json"))]
    return [Report(report["excepted"], report["refused"]) for report in said if report["armed"]]
