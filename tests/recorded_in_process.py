"""The subject of tests/recorded_subject, trained in this process: for tests that need many runs."""

import argparse
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gates.subject.recorded_directory import RecordedDirectory
from honestloop.description import Description, describe

SUBJECT = Path(__file__).with_name("recorded_subject")
DESCRIPTION = describe(str(SUBJECT))


def _train_py() -> Any:
    spec = importlib.util.spec_from_file_location("recorded_subject_train", SUBJECT / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRAIN = _train_py()


@dataclass
class InProcess:
    """What gates.subject.commanded.CommandedSubject is, without a process; with a mistake in some of its updates."""

    home: Path
    mistake: str = ""
    since: int = 1
    until: int = 10**9
    description: Description = DESCRIPTION

    def train(self, out: str = "run", *, resume: bool = False, **values: Any) -> Path:
        """Train into `home/out`, or go on there."""
        run = self.description.run
        given = {
            "steps": run.steps,
            "save_every": run.checkpoint_every,
            "seed": run.seed,
            "stop_after": 10**9,
        }
        given["save_every"] = values.pop("checkpoint_every", run.checkpoint_every)
        mistake = {"mistake": self.mistake, "since": self.since, "until": self.until}
        TRAIN.Run(
            argparse.Namespace(out=self.home / out, resume=resume, **{**given, **values, **mistake})
        ).train()
        return self.home / out

    def recorded(self, out: str = "run", **values: Any) -> RecordedDirectory:
        """The directory of a run from the beginning."""
        return RecordedDirectory(self.train(out, **values), self.description.run)
