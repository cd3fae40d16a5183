"""The properties as a subject: a run of `python -m properties.strength` on mutants drawn from the session's seed."""

from dataclasses import dataclass
from typing import Any

from gates.errors import GateError
from gates.subject.process import Finished
from gates.subject.session import Session
from honestloop.guarded_files import UnreadableError, read_json
from honestloop.suite_location import in_suite

STRENGTH = in_suite("properties.strength")


@dataclass(frozen=True)
class Judged:
    """How the run ended, and the counts it wrote."""

    finished: Finished
    counts: dict[str, Any]


def judge_mutants(session: Session, module: str, name: str) -> Judged:
    """A quick check of the properties. GateError if it wrote no counts; its status is for the gate to judge."""
    path = session.home / name / "counts.json"
    # A seed of its own: other processes can read a command line, and the session's seed would tell them what is drawn.
    seed = session.chance("mutants").getrandbits(32)
    options = ("--quick", "--seed", str(seed), "--json", path)
    finished = session.untracked(module, name).run(*options)
    try:
        return Judged(finished, read_json(path, within=session.home))
    except UnreadableError:
        finished.succeeded()
        raise GateError(f"`{finished.command}` wrote no counts to {path.name}") from None
