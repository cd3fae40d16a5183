"""The five state machines of a run: see impl/loop.py."""

from dataclasses import dataclass

from impl.data.iterator import DataIterator
from impl.model.minigpt import MiniGPT
from impl.optim.optimizer import AdamW
from impl.optim.schedule import Schedule
from impl.rng import ControlRNG
from impl.run.checkpoint import StateMachine


@dataclass(frozen=True)
class StateMachines:
    """Everything that changes from step to step. Saving these five, and nothing else, saves the run."""

    model: MiniGPT
    optimizer: AdamW
    scheduler: Schedule
    data: DataIterator
    control: ControlRNG

    def named(self) -> dict[str, StateMachine]:
        """Each machine under the name that a checkpoint gives it."""
        return dict(vars(self))
