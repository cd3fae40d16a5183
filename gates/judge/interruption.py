"""Checks of the gate `interruption`: a script that trains and resumes, judged by what it leaves, whatever that is."""

from collections.abc import Sequence
from pathlib import Path

from gates.judge import crash_states, pickles, same_run
from gates.judge.crash_states import Word
from gates.subject.crash_runs import Crashes
from gates.subject.interruptions import Repeated, Stopped
from gates.verdict.finding import Finding, Problem, no_problems

NONDETERMINISM = "nondeterminism, not a resume bug: the same run twice differs"


def rerun(repeated: Repeated, may_differ: tuple[str, ...] = ()) -> Finding:
    """The same command twice leaves the same files with the same bytes, but for what is declared."""
    compared = same_run.compare(repeated.whole, repeated.run, may_differ)
    more = [Problem(f"{name} is there the second time alone", name, "no such file") for name in compared.more]
    problems = [
        Problem(f"{NONDETERMINISM}: {p.what}", p.got, p.expected) for p in (*compared.problems, *more)
    ]
    if not compared.files:
        problems.append(Problem("nothing was compared", "no files", "files that are not declared to differ"))
    return no_problems("interruption/rerun", problems, of=compared.summary, what="differ")


def stop(stopped: Stopped, may_differ: tuple[str, ...] = ()) -> Finding:
    """It stops when told to, and the resumed run is the one that was not stopped."""
    told = f"told to stop after step {' and '.join(map(str, stopped.stops))}"
    problems = [
        Problem(f"{told}, it trained to the end", "the files of the whole run", "those of its first steps")
        for stood in stopped.stood
        if not same_run.compare(stopped.whole, stood, may_differ).problems
    ]
    compared = same_run.compare(stopped.whole, stopped.run, may_differ)
    problems += [Problem(f"{told}, then resumed: {p.what}", p.got, p.expected) for p in compared.problems]
    of = f"{compared.summary}, {told}{_more(compared)}"
    return no_problems("interruption/stop", problems, of=of, what="differ")


def terminate(crashes: Crashes, may_differ: tuple[str, ...] = ()) -> Finding:
    """SIGTERM ends the run before its end, and the resumed run is the one that was not ended."""
    ignored = [
        Problem(
            f"{resumed.moment}: it went on to its end",
            f"status {resumed.ended}",
            "an end after the present step",
        )
        for resumed in crashes.tried
        if resumed.stood is not None
        and not same_run.compare(crashes.whole, resumed.stood, may_differ).problems
    ]
    if ignored:
        return no_problems("interruption/terminate", ignored, of=crashes.of)
    return crash_states.found("interruption/terminate", crashes, may_differ)


def kill(crashes: Crashes, may_differ: tuple[str, ...] = ()) -> Finding:
    """A run that SIGKILL ended at a random moment resumes from its last complete save, to the same bytes."""
    return crash_states.found("interruption/kill", crashes, may_differ)


def events(crashes: Crashes, may_differ: tuple[str, ...] = ()) -> Finding:
    """So does one that was killed at any file event."""
    return crash_states.found("interruption/events", crashes, may_differ)


def pickle(run: Path) -> Finding:
    """No file of the run is a pickle, or an archive that holds one."""
    return pickles.check("interruption/pickle", run)


def words(crashes: Crashes, may_differ: tuple[str, ...] = ()) -> Sequence[Word]:
    """The word for each interrupted run."""
    return [crash_states.outcome(crashes, resumed, may_differ).word for resumed in crashes.tried]


def _more(compared: same_run.Comparison) -> str:
    """What the other run does not have: a checkpoint where it was stopped."""
    return f", {len(compared.more)} files more" if compared.more else ""
