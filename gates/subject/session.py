"""The context of a session: who is graded, where its runs go, what it is trained on, and what is left to chance."""

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from fixtures.corpus import files
from fixtures.corpus.conjugation import Row
from gates.subject.process import Subject
from gates.subject.run_directory import RunDirectory


@dataclass
class Session:
    """The subject under judgement, the place for its runs, and the session's two seeds."""

    subject: str
    home: Path
    blind_seed: int
    kill_seed: int
    committed: dict[str, list[Row]] = field(default_factory=files.read_directory)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begun(self) -> RunDirectory:
        """A run with the defaults, stopped before its first step; made once, by the first job that needs it."""
        with self._lock:
            run = RunDirectory(self.home / "begun" / "run")
            if run.path.exists():
                return run
            return self.untracked(self.subject, "begun").train("--stop-after", "0")

    def untracked(self, module: str, name: str) -> Subject:
        """A subject whose runs are not tracked by MLflow (that takes seconds, and only one gate looks at it)."""
        return Subject(module, self.home / name)

    def chance(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, from the session's seed."""
        return random.Random(f"{self.kill_seed}/{purpose}")
