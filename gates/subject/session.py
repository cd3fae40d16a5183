"""What the gates of a session share: the subject, where its runs go, what they are trained on, and the seeds."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fixtures.corpus import files
from fixtures.corpus.conjugation import Row
from gates.errors import GateError
from gates.subject.commanded import CommandedSubject
from gates.subject.declarations import SPECIFIED, Declared
from gates.subject.process import UNTRACKED, Finished, Subject
from gates.subject.run_directory import RunDirectory
from gates.subject.serving import Servers, WarmSubject
from honestloop.description import Description


@dataclass
class Session:
    """The subject under judgement, the place for its runs, and the session's two seeds."""

    description: Description
    home: Path
    blind_seed: int
    kill_seed: int
    every_event: bool = False
    """Whether the run is resumed from its state before each file event, not from a drawn sample."""
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
            return self.warm(self.subject, "begun").train("--stop-after", "0")

    @property
    def subject(self) -> str:
        """The module of a subject of phase 18."""
        if self.description.module is None:
            raise GateError(f"{self.description.name} names no module that answers to python -m")
        return self.description.module

    def started(self, module: str, name: str, env: Mapping[str, str] = UNTRACKED) -> Subject:
        """A module with the place for its runs; the subject itself starts in the folder of its description."""
        if module == self.description.module:
            return Subject(module, self.home / name, env, self.description.folder, self.description.python)
        return Subject(module, self.home / name, env)

    def untracked(self, module: str, name: str) -> Subject:
        """A subject whose runs are not tracked by MLflow (that takes seconds, and only one gate looks at it)."""
        return self.started(module, name)

    def warm(self, module: str, name: str) -> Subject:
        """The same for runs where a fresh process proves nothing: a warm one serves them, if the subject has one."""
        if module != self.description.module or not self.description.offers("serve"):
            return self.untracked(module, name)
        return WarmSubject(module, self.home / name, servers=self._servers)

    def ask(self, verb: str, **values: object) -> Finished:
        """A verb that the description has a command for, answered by a warm process if there is one."""
        if self.description.offers("serve"):
            self.asked |= {verb, "serve"}
            return self._servers.ask(verb, **values)
        return self.commanded("asked").ask(verb, **values)

    @cached_property
    def _servers(self) -> Servers:
        return Servers(self.description, self.home / "serve")

    def declared(self, module: str) -> Declared:
        """What a module says of itself: the subject by its description, a control nothing."""
        return self._declared if module == self.description.module else SPECIFIED

    @cached_property
    def _declared(self) -> Declared:
        offers = frozenset(verb for verb in ("rows", "masks") if self.description.offers(verb))
        return Declared(self.description.conventions, offers, self.ask, self.home / "declared")

    def commanded(self, name: str) -> CommandedSubject:
        """A subject of the levels below phase 18, with the place for its runs."""
        return CommandedSubject(self.description, self.home / name, self.asked)

    def chance(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, from the session's seed."""
        return random.Random(f"{self.kill_seed}/{purpose}")
