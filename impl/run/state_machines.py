"""The state machines of a run: the five of every loop, and those that a setting switches on. See impl/loop.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from impl.data.iterator import DataIterator
from impl.data.windows import Windows
from impl.model.minigpt import MiniGPT
from impl.optim.optimizer import Optimizer
from impl.optim.schedule import Schedule
from impl.rng import ControlRNG
from impl.run.checkpoint import StateMachine


@dataclass(frozen=True)
class StateMachines:
    """Everything that changes from step to step. Saving these, and nothing else, saves the run."""

    model: MiniGPT
    optimizer: Optimizer
    scheduler: Schedule
    data: DataIterator
    control: ControlRNG
    windows: Windows
    """The batches of each update, drawn from `data`; between two updates it keeps nothing."""
    options: Mapping[str, StateMachine] = field(default_factory=dict)
    """Those of the settings of this run, by name; none in the default run."""

    def count(self, tokens: int) -> dict[str, Any]:
        """Count an update with this many predicted tokens; what the log says then, nothing if nothing is counted."""
        if self.windows.counters is None:
            return {}
        self.windows.counters.update(tokens)
        return self.windows.counters.record()

    def named(self) -> dict[str, StateMachine]:
        """Each machine under the name that a checkpoint gives it."""
        five: dict[str, StateMachine] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "data": self.data,
            "control": self.control,
        }
        return five | dict(self.options)
