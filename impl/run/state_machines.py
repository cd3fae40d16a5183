"""The state machines of a run: the five of every loop, and those that a setting switches on. See impl/loop.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from impl.data.iterator import DataIterator
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
    options: Mapping[str, StateMachine] = field(default_factory=dict)
    """Those of the settings of this run, by name; none in the default run."""

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
