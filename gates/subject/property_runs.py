"""The properties as a run of `honestloop check`, in a process of its own: it imports the subject's adapter."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import honestloop
from gates.errors import GateError
from gates.subject.offers import adapter_of
from gates.subject.process import UNTRACKED, Finished, Process
from gates.subject.session import Session
from honestloop.guarded_files import UnreadableError, read_json

TIMEOUT = 1200.0  # seconds; a PyTorch adapter takes a minute on an idle core


@dataclass(frozen=True)
class Checked:
    """How the run ended, and the report it wrote."""

    finished: Finished
    report: dict[str, Any]


def check_adapter(session: Session) -> Checked:
    """Every property of every function that the subject's adapter offers."""
    adapter = adapter_of(session.description)
    if adapter is None:
        raise GateError("there is no adapter")
    return check_module(adapter, session.home / "properties", session.description.folder)


def check_module(module: str, home: Path, folder: Path, *rules: str) -> Checked:
    """Properties of a module, all or those of some rules. GateError if no report was written."""
    home.mkdir(parents=True, exist_ok=True)
    report = home / "report.json"
    selected = [word for rule in rules for word in ("--rule", rule)]
    argv = [sys.executable, "-m", honestloop.__name__, "check", module, "--json", str(report), *selected]
    where = [str(Path(honestloop.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    if (folder / "__init__.py").exists():  # the description lies in the package itself
        where.append(str(folder.parent))
    env = {
        **UNTRACKED,
        "PYTHONPATH": os.pathsep.join(where),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
    }
    finished = Process(argv, cwd=folder, env=env, output=home / "check").wait(TIMEOUT)
    try:
        return Checked(finished, read_json(report, within=home))
    except UnreadableError:
        finished.succeeded()
        raise GateError(f"`{finished.command}` wrote no report") from None
