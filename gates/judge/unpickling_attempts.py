"""The check of the no-pickle gate on processes in which unpickling raises."""

from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from gates.subject.unpickling_guard import Report
from gates.verdict.finding import Finding, Problem, no_problems

SHOWS = (
    "no-pickle gate: the source, parsed, has no way to unpickle; every file of the run is of an allowed format by its "
    "bytes; steps, a save, a load and the end of a run (without MLflow) work in processes where Python's unpicklers "
    "raise and from which no other Python can be started by ordinary means. It cannot show what native code of an "
    "installed library does with bytes of its own accord, nor that a subject which detects the guard would behave the "
    "same without it."
)


def works_without_unpickling(run: RunDirectory, reports: list[Report]) -> Finding:
    """Two guarded processes trained, saved, loaded and finished; only numba's cache unpickled."""
    problems = _refusals(reports, "an attempt")
    if len(reports) < 2:
        problems.append(Problem("the guard was not active in both processes", len(reports), 2))
    if run.logged_steps() != 4 or not run.checkpoints():
        problems.append(Problem("steps in the guarded run", run.logged_steps(), "4, and a checkpoint"))
    excepted = sum(sum(report.excepted.values()) for report in reports)
    of = f"2 processes (excepted: numba's compilation cache, {excepted} times)"
    return no_problems("no_pickle/process", problems, of=of, what="attempts")


def _refusals(reports: list[Report], got: str) -> list[Problem]:
    """One problem for each attempt to unpickle, or to start a program that could do it unseen."""
    attempts = [what for report in reports for what in report.refused]
    kinds = ["another program" if what.startswith("starts ") else "unpickling" for what in attempts]
    return [Problem(f"{kind}: {what}", got, "none") for kind, what in zip(kinds, attempts, strict=True)]


def breaks(finished: Finished, reports: list[Report]) -> Finding:
    """The same check for a run that ended because it was not allowed to unpickle."""
    problems = _refusals(reports, f"status {finished.status}")
    return no_problems("no_pickle/process", problems, of=f"{len(reports)} processes", what="attempts")
