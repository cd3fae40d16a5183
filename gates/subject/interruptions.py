"""Runs of a commanded subject that are repeated, or stopped where they are told to stop, and resumed."""

from dataclasses import dataclass
from pathlib import Path

from gates.subject.guarded_copy import copy_tree
from gates.subject.run_places import Places


@dataclass(frozen=True)
class Repeated:
    """The run that nothing interrupted, and another one that must equal it."""

    whole: Path
    run: Path


@dataclass(frozen=True)
class Stopped:
    """A run that was stopped after some steps, each time resumed."""

    whole: Path
    run: Path
    stops: tuple[int, ...]
    stood: list[Path]
    """Copies of the directory as each stop left it."""


def repeat(places: Places) -> Repeated:
    """The same command twice."""
    with places.place("rerun") as subject:
        subject.train()
    return Repeated(places.whole.run, places.found("rerun"))


def stop(places: Places) -> Stopped:
    """Stop after one drawn step, after a later one if `resume` too has {stop_after}; then go on to the end."""
    description = places.session.description
    last = description.run.steps - 1
    chance = places.session.chance("stops")
    count = min(last, 2 if "stop_after" in description.placeholders("resume") else 1)
    stops = tuple(sorted(chance.sample(range(1, last + 1), count)))
    with places.place("stop") as subject:
        for number, step in enumerate(stops):
            run = subject.train(resume=number > 0, stop_after=step)
            copy_tree(run, subject.home / f"stood-{step}")
        subject.train(resume=True)
    run = places.found("stop")
    return Stopped(places.whole.run, run, stops, [run.with_name(f"stood-{step}") for step in stops])
