"""report.html: the run as a page, drawn from the files that are in its directory by then."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from impl.run.directory import LOG, MANIFEST, Run
from impl.run.files import atomic_write, read_json
from impl.run.log import read_log
from pages.run import report
from pages.run_data import RunData

NAME = "report.html"


def write(
    run: Run,
    results: Mapping[str, Any],
    drift: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    evaluation: Mapping[str, Any],
) -> Path:
    """Write the page beside the files; the arguments are what those of that name hold."""
    shown = RunData(
        run.path.absolute().name,
        log=read_log(run.path / LOG),
        results=results,
        manifest=read_json(run.path / MANIFEST),
        drift=drift,
        samples=samples,
        evaluation=evaluation,
    )
    path = run.path / NAME
    atomic_write(path, report(shown).encode())
    return path
