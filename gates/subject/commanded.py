"""A subject of levels 1 to 3: the commands of its description, each with its placeholders filled in."""

from dataclasses import dataclass, field
from pathlib import Path

from gates.subject.process import UNTRACKED, Finished, Process
from honestloop.description import Description


@dataclass
class CommandedSubject:
    """A described subject and the place for its runs."""

    description: Description
    home: Path
    asked: set[str] = field(default_factory=set)
    """The verbs that were started so far; what is declared and never asked keeps a verdict from being complete."""

    def start(self, out: str = "run", *, resume: bool = False, **values: object) -> Process:
        """Start to train into `home/out`, or to go on there, and return at once.

        `values` replace those of the table [run]: steps, seed, checkpoint_every, data, stop_after (by default as many
        as steps).
        """
        run = self.description.run
        given: dict[str, object] = {
            "out": self.home / out,
            "data": run.data,
            "seed": run.seed,
            "steps": run.steps,
            "checkpoint_every": run.checkpoint_every,
            **values,
        }
        given.setdefault("stop_after", given["steps"])
        return self._start("resume" if resume else "train", given)

    def train(self, out: str = "run", *, resume: bool = False, **values: object) -> Path:
        """Train, or go on training, to the end; the run directory. GateError unless the status is 0."""
        self.start(out, resume=resume, **values).wait(self.description.run.timeout).succeeded()
        return self.home / out

    def ask(self, verb: str, **values: object) -> Finished:
        """Start another verb and wait for its end, whatever its status."""
        return self._start(verb, values).wait(self.description.run.timeout)

    def _start(self, verb: str, values: dict[str, object]) -> Process:
        self.asked.add(verb)
        self.home.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in self.home.glob("*.out"))
        argv = self.description.argv(verb, **values)
        output = self.home / f"{number:02d}-{verb}"
        return Process(argv, cwd=self.description.folder, env=UNTRACKED, output=output)
