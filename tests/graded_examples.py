"""The examples of docs/, and the mistakes that each of them can be given: read, made, and graded.

A folder docs/examples/NAME with a subject.toml is an example. Its mistakes.toml has a table for each mistake: what
is replaced in a copy of the example, and which check must refuse it, in which words.

    [decays_the_biases]
    file = "train.py"
    old = "decay if weight.ndim > 1 else 0.0"
    new = "decay"
    check = "record/decay"
    says = "declared 0"
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from honestloop.suite_location import ROOT

EXAMPLES = ROOT / "docs" / "examples"


@dataclass(frozen=True)
class Mistake:
    """One mistake of an example, and the check of the verdict that must refuse it."""

    example: str
    name: str
    file: str
    old: str
    new: str
    check: str
    """ "gate/check" """
    says: str
    """Words that the refusal must contain."""

    def make(self, folder: Path) -> None:
        """Put it into a copy of the example. ValueError unless what it replaces is there once."""
        path = folder / self.file
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.example}: {self.name}: {self.file} has {self.old!r} {count} times, not once"
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def examples() -> list[str]:
    """Names of the examples."""
    return sorted(path.parent.name for path in EXAMPLES.glob("*/subject.toml"))


def mistakes() -> list[Mistake]:
    """Those of every example, in the order of their files."""
    found = []
    for name in examples():
        said = tomllib.loads((EXAMPLES / name / "mistakes.toml").read_text(encoding="utf-8"))
        found += [Mistake(name, mistake, **fields) for mistake, fields in said.items()]
    return found


def copy(example: str, to: Path) -> Path:
    """A copy of an example in a folder of its own."""
    return Path(
        shutil.copytree(
            EXAMPLES / example, to / example, ignore=shutil.ignore_patterns("__pycache__", "runs")
        )
    )


def grade(folder: Path, runs: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Grade a described subject as a stranger would; the status, verdict.json, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "honestloop", "grade", str(folder), "--runs", str(runs), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    said = runs / "verdict.json"
    if not said.exists():
        raise AssertionError(done.stdout + done.stderr)
    return done.returncode, json.loads(said.read_bytes()), done.stdout + done.stderr


def refusals(verdict: dict[str, Any]) -> dict[str, str]:
    """ "gate/check" -> message, of the checks that failed."""
    return {
        f"{gate['gate']}/{check['check']}": check["message"]
        for gate in verdict["gates"]
        for check in gate["checks"]
        if check["verdict"] == "FAILED"
    }
