"""Checks of the resume gate: an interruption changes no byte."""

from collections.abc import Mapping

from gates.jobs import KILL_EARLY, RESUME_STEPS, STOPS, TERMINATE, Interrupted
from gates.judge import difference
from gates.subject.run_directory import RunDirectory
from gates.verdict.finding import Finding, Problem, no_problems

NONDETERMINISM = "nondeterminism, not a resume bug: the same run twice differs"


def identical(
    where: str, expected: RunDirectory, got: RunDirectory, *, story: str, resumed_at: int | None = None
) -> Finding:
    """Weights, moments, every state machine and every log line are there and equal, byte for byte."""
    found = difference.between(expected, got, resumed_at=resumed_at)
    problems = [] if found is None else [Problem(f"{story}: {found}", found.got, found.expected)]
    for run in (expected, got):
        if lack := difference.missing_state(run):
            problems.append(Problem("a checkpoint is not whole", lack, "weights, moments and four machines"))
    of = f"{difference.compared_bytes(expected, got):,} bytes"
    return no_problems(where, problems, of=of, what="differ")


def rerun(first: RunDirectory, second: RunDirectory) -> Finding:
    """The same run twice is identical. Without that, no resume could be judged."""
    return identical("resume/rerun", first, second, story=NONDETERMINISM)


def resumed(name: str, reference: RunDirectory, interrupted: Interrupted) -> Finding:
    """The interrupted run has become the one that was not."""
    resumed_at = max(interrupted.stood[-1][1], default=0)
    story = f"interrupted ({interrupted.how}), resumed after step {resumed_at}"
    return identical(f"resume/{name}", reference, interrupted.run, story=story, resumed_at=resumed_at)


def cuts(reference: RunDirectory, runs: Mapping[str, Interrupted]) -> Finding:
    """Each interruption fell where its name says; judged by the log of the run that was not interrupted."""
    epoch = [line["epoch"] for line in reference.log]
    rate = [line["lr"] for line in reference.log]
    mid, edge, warm = STOPS["mid-epoch"][0], STOPS["epoch-edge"][0], STOPS["warm-up"][0]
    early, late, term = (runs[name].stood[0] for name in ("kill-early", "kill-late", "terminate"))
    facts = {
        f"the run has {RESUME_STEPS} steps": len(epoch) == RESUME_STEPS,
        f"step {warm} is inside the warm-up: the rate still rises": rate[warm - 1] < rate[warm],
        f"step {mid} is inside an epoch": epoch[mid - 2] == epoch[mid - 1] == epoch[mid],
        f"step {edge} is the last of its epoch": epoch[edge - 1] + 1 == epoch[edge],
        "SIGKILL came before the first checkpoint": not early[1] and early[0] >= min(KILL_EARLY),
        "SIGKILL came after a checkpoint, and steps later": bool(late[1])
        and late[0] > max(late[1], default=0),
        "SIGTERM left a checkpoint of the last logged step": term[1][-1:] == [term[0]]
        and TERMINATE <= term[0] < RESUME_STEPS,
        **{
            f"--stop-after {', '.join(map(str, stops))} left checkpoints there": _stopped_at(
                runs[name], stops
            )
            for name, stops in STOPS.items()
        },
    }
    problems = [
        Problem(f"not so: {fact}", _standing(runs), fact) for fact, holds in facts.items() if not holds
    ]
    return no_problems("resume/cuts", problems, of=f"{len(facts)} conditions")


def _stopped_at(interrupted: Interrupted, stops: tuple[int, ...]) -> bool:
    return [(lines, max(steps, default=None)) for lines, steps in interrupted.stood] == [
        (s, s) for s in stops
    ]


def _standing(runs: Mapping[str, Interrupted]) -> str:
    return ", ".join(f"{name} {run.stood}" for name, run in runs.items())
