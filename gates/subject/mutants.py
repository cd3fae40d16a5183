"""The properties as a subject: a run of `python -m properties.strength` on mutants drawn from the session's seed."""

import json
from dataclasses import dataclass
from typing import Any

from gates.errors import GateError
from gates.subject.grading import Grading
from gates.subject.process import Finished

STRENGTH = str(__package__).removesuffix("gates.subject") + "properties.strength"


@dataclass(frozen=True)
class Judged:
    """How the run ended, and the counts it wrote."""

    finished: Finished
    counts: dict[str, Any]


def judge_mutants(grading: Grading, module: str, name: str) -> Judged:
    """A quick check of the properties. GateError if it wrote no counts; its status is for the gate to judge."""
    path = grading.home / name / "counts.json"
    options = ("--quick", "--seed", str(grading.kill_seed), "--json", path)
    finished = grading.untracked(module, name).run(*options)
    try:
        return Judged(finished, json.loads(path.read_bytes()))
    except (OSError, ValueError):
        finished.succeeded()
        raise GateError(f"`{finished.command}` wrote no counts to {path.name}") from None
