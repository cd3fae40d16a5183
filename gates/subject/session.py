"""What the gates of a session share: the subject, where its runs go, what they are trained on, and the seeds."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fixtures.corpus import files
from fixtures.corpus.conjugation import Row
from gates.errors import GateError
from gates.subject.commanded import CommandedSubject
from gates.subject.process import UNTRACKED, Subject
from gates.subject.run_directory import RunDirectory
from honestloop.description import Description


@dataclass
class Session:
    """The subject under judgement, the place for its runs, and the session's two seeds."""

    description: Description
    home: Path
    blind_seed: int
    kill_seed: int
    committed: dict[str, list[Row]] = field(default_factory=files.read_directory)
    asked: set[str] = field(default_factory=set)
    """The verbs of the description that were asked so far."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begun(self) -> RunDirectory:
        """A run with the defaults, stopped before its first step; made once, by the first job that needs it."""
        with self._lock:
            run = RunDirectory(self.home / "begun" / "run")
            if run.path.exists():
                return run
            return self.untracked(self.subject, "begun").train("--stop-after", "0")

    @property
    def runs(self) -> Path:
        """Where the sessions' runs, the verdict and the badge go."""
        return self.home.parents[1]

    @property
    def subject(self) -> str:
        """The module of a subject of phase 18."""
        if self.description.module is None:
            raise GateError(f"{self.description.name} names no module that answers to python -m")
        return self.description.module

    def started(self, module: str, name: str, env: Mapping[str, str] = UNTRACKED) -> Subject:
        """A module with the place for its runs; the subject itself starts in the folder of its description."""
        if module == self.description.module:
            said = self.description
            return Subject(module, self.home / name, env, said.folder, said.python, said.run.timeout)
        return Subject(module, self.home / name, env)

    def untracked(self, module: str, name: str) -> Subject:
        """A subject whose runs are not tracked by MLflow (that takes seconds, and only one gate looks at it)."""
        return self.started(module, name)

    def commanded(self, name: str) -> CommandedSubject:
        """A subject of the levels below phase 18, with the place for its runs."""
        return CommandedSubject(self.description, self.home / name, self.asked)

    def chance(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, from the session's seed."""
        return random.Random(f"{self.kill_seed}/{purpose}")
