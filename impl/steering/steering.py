"""The parts that steer a run, as the settings of the run switch them on. See impl/loop.py, which asks them in turn."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from impl.config import Config
from impl.data.iterator import Batch
from impl.errors import NonFiniteError
from impl.model.minigpt import MiniGPT
from impl.optim.average import LossAverage, WeightAverage
from impl.optim.schedule import Schedule
from impl.run.checkpoint import StateMachine
from impl.steering.best import BestTracker
from impl.steering.budget import Budget
from impl.steering.cadence import run_length
from impl.steering.memory import MicroBatches, in_parts
from impl.steering.outliers import OutlierDetector

WEIGHTS = "parameters"
"""The name of the one array that is averaged: all parameters, side by side."""


def machines(config: Config, model: MiniGPT) -> dict[str, StateMachine]:
    """By name the state machines that the settings ask for, in their initial state; none by default."""
    stopping, average = config.stopping, config.average
    found: dict[str, StateMachine] = {}
    if stopping.tokens or stopping.seconds:
        found["budget"] = Budget(
            seconds=stopping.seconds, tokens=stopping.tokens, excluded_updates=stopping.excluded_updates
        )
    if stopping.patience:
        settings = {"mode": "min", "patience": stopping.patience, "min_delta": stopping.min_delta}
        found["early_stopping"] = BestTracker(settings)
    if stopping.z_score:
        found["outliers"] = OutlierDetector(stopping.window, stopping.z_score)
    if average.weights:
        found["weight_average"] = WeightAverage(average.weights, {WEIGHTS: model.flat_parameters})
    if average.loss:
        found["loss_average"] = LossAverage(average.loss)
    if config.halve_micro_batches:
        found["micro_batches"] = MicroBatches(config.micro_batches)
    return found


def total_updates(config: Config, rows: int) -> int:
    """The updates of a run that nothing ends early: `steps`, or those of `epochs` over this many rows if fewer."""
    batches = -(-rows // config.batch_size)
    epochs = config.stopping.epochs or None
    windows: dict[str, Any] = {"accumulate": config.accumulate, "leftover": config.leftover}
    return run_length(steps=config.steps, epochs=epochs, batches=batches, **windows)


def schedule_of(config: Config, total: int, budget: Any) -> Schedule:
    """The learning-rate schedule that the settings ask for."""
    optimizer, schedule = config.optimizer, config.schedule
    rates: dict[str, Any] = {
        "peak": optimizer.peak_lr,
        "floor": optimizer.min_lr,
        "warmdown": schedule.warmdown,
    }
    if schedule.by == "time":
        return Schedule(**rates, warmup=schedule.warmup, total=total, progress=lambda: budget.progress)
    return Schedule(**rates, warmup=optimizer.warmup_steps, total=total, kind=schedule.kind)


class Steering:
    """What the loop asks before, during and after an update, and what it is told."""

    def __init__(self, config: Config, options: Mapping[str, StateMachine], total: int) -> None:
        self._config, self._total = config, total
        self._budget: Any = options.get("budget")
        self._tracker: Any = options.get("early_stopping")
        self._outliers: Any = options.get("outliers")
        self._weights: Any = options.get("weight_average")
        self._loss: Any = options.get("loss_average")
        self._memory: Any = options.get("micro_batches") or MicroBatches(config.micro_batches)

    def last(self, step: int) -> int:
        """The number of the last update, as far as it is known after `step` updates."""
        ended = (self._budget and self._budget.spent) or (self._tracker and self._tracker.stop)
        return step if ended else self._total

    def update(self, window: Sequence[Batch], update: Callable[[Sequence[Batch]], Any]) -> Any:
        """The update of a window of batches in micro-batches, within the memory that there is if that is asked for."""
        self._judged = False
        if self._budget:
            self._budget.begin()
        if not self._config.halve_micro_batches:
            return update(in_parts(window, self._config.micro_batches))
        return self._memory.run(window, update, lambda: self._judged)

    def refuse_explosion(self, step: int, loss: float) -> None:
        """Raise a NonFiniteError if the loss of the coming update is above its limit or out of line."""
        self._judged = True
        limit = self._config.stopping.loss_above
        if limit and loss > limit:
            raise NonFiniteError(
                f"step {step}: the loss is {loss}, above {limit}; stopped, nothing of it was kept"
            )
        if self._outliers and self._outliers.update(loss):
            score = self._config.stopping.z_score
            text = f"the loss is {loss}, more than {score} standard deviations above those before it"
            raise NonFiniteError(f"step {step}: {text}; stopped, nothing of it was kept")

    def after_update(self, model: MiniGPT, loss: float, tokens: int) -> dict[str, float]:
        """Take an update; what the log line says beside what every line says."""
        if self._budget:
            self._budget.end(tokens)
        if self._weights:
            self._weights.update({WEIGHTS: model.flat_parameters})
        return {"smooth_loss": self._loss.update(loss)} if self._loss else {}

    @contextmanager
    def averaged(self, model: MiniGPT) -> Iterator[None]:
        """The model with the averaged weights, if there are any; its own are put back whatever happens."""
        if not self._weights:
            yield
            return
        own = model.flat_parameters.copy()
        try:
            model.flat_parameters[...] = self._weights.parameters()[WEIGHTS]
            yield
        finally:
            model.flat_parameters[...] = own

    def after_evaluation(self, loss: float, step: int) -> None:
        """Take the evaluation after an update."""
        if self._tracker:
            self._tracker.update(loss, step)
