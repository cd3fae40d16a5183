"""The training loop.

All state is in five checkpointable components: the model's parameters, the optimizer, the learning-rate schedule, the
data iterator and the generator of the dropout masks. This project calls them state machines: each has `state`, which
returns a copy of its whole state, and `restore`, which sets it. Saving these five saves the run; a setting that keeps
more state adds a machine of its own.
"""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from impl.data.iterator import DataIterator
from impl.errors import UsageError
from impl.evaluate import evaluate
from impl.model.dropout import Dropout
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters, parameter_shapes
from impl.optim.choice import optimizer_of
from impl.optim.schedule import Schedule
from impl.report.progress import Progress
from impl.report.tracking import Tracker
from impl.rng import ControlRNG
from impl.run import checkpoint
from impl.run.checkpoint import Best, Checkpoint, Expected
from impl.run.clock import ZERO_TIME, Clock, Spent
from impl.run.directory import CHECKPOINTS, LOG, Run
from impl.run.log import TrainLog, starts_with, with_hex
from impl.run.state_machines import StateMachines
from impl.update import refuse_non_finite, update


def train(
    run: Run, machines: StateMachines, start: Checkpoint | None, log: TrainLog, tracker: Tracker, stop: "Stop"
) -> tuple[Best | None, Spent]:
    """Train until the last step or until `stop`; every step is in the log, the last one in a checkpoint.

    `start` is the checkpoint that the machines were restored from. Returns the best evaluation so far and the time that
    the run has taken. Raises NonFiniteError before a NaN or an infinity reaches a parameter.
    """
    config = run.config
    model, optimizer, scheduler = machines.model, machines.optimizer, machines.scheduler
    data, control = machines.data, machines.control
    best, saved_step = (start.best, start.step) if start else (None, None)
    clock = Clock(start.spent if start else ZERO_TIME)

    def save() -> int:
        """Write a checkpoint of the step that is done; its number."""
        folder, run_id, position = run.path / CHECKPOINTS, run.manifest.run_id, log.position()
        checkpoint.save(folder, run_id, scheduler.step, machines.named(), position, best, clock.spent())
        tracker.sync()
        return scheduler.step

    with Progress(config.steps, scheduler.step) as progress:
        while scheduler.step < config.steps and not stop.due(scheduler.step):
            clock.start_step()
            batch = data.next_batch()
            key, update_number = control.next_step()
            dropout = Dropout(config.dropout, key, update_number)
            window = batch.split(config.micro_batches)
            metrics = update(model, optimizer, scheduler, dropout, window, config.optimizer.clip_norm)
            clock.end_step(metrics.tokens)

            step = scheduler.step
            record = {"step": step, "epoch": data.epoch, **vars(metrics)}
            if _due(step, config.eval_every, config.steps):
                score = evaluate(model, run.sequences["val"], config.batch_size)
                refuse_non_finite(step, validation_perplexity=score.perplexity)
                record |= {"val_loss": score.loss, "val_ppl": score.perplexity}
                if best is None or score.loss < best["val_loss"]:
                    best = {"step": step, "val_loss": score.loss}
            log.append(with_hex(record, ("loss", "lr", "grad_norm", "val_loss", "val_ppl")))
            progress.show(record)
            if _due(step, config.checkpoint_every, config.steps):
                saved_step = save()
        if saved_step != scheduler.step:
            save()
    return best, clock.spent()


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def build(run: Run) -> StateMachines:
    """The five state machines in their initial state."""
    config, optimizer = run.config, run.config.optimizer
    return StateMachines(
        MiniGPT(config.model, config.dtype, initial_parameters(config.seed, config.model)),
        optimizer_of(config, parameter_shapes(config.model)),
        Schedule(
            peak=optimizer.peak_lr, floor=optimizer.min_lr, warmup=optimizer.warmup_steps, total=config.steps
        ),
        DataIterator(run.sequences["train"], config.batch_size, config.seed),
        ControlRNG(config.seed),
    )


def restore_newest(run: Run, machines: StateMachines, report: Callable[[str], None]) -> Checkpoint | None:
    """Restore the machines from the newest checkpoint that is intact, and return it; None if the run never wrote one.

    Raises UsageError if checkpoints are there, or must have been, and none can be used.
    """
    folder, log = run.path / CHECKPOINTS, run.path / LOG
    expected = Expected.of(run.manifest.run_id, machines.named())
    found = checkpoint.newest(folder, expected, lambda position: starts_with(log, position), report)
    if found:
        for name, machine in machines.named().items():
            machine.restore(found.machines[name])
        return found
    # With more logged steps than checkpoint_every, a checkpoint must have existed.
    must_exist = log.exists() and log.read_bytes().count(b"\n") > run.config.checkpoint_every
    if must_exist or any(folder.glob("step-*")):
        raise UsageError(f"{folder}: no checkpoint there can be used; the run was left as it is")
    return None


class Stop:
    """When to stop before the last step: after a given one, or on SIGINT or SIGTERM, once the step is done."""

    def __init__(self, after: int | None) -> None:
        self._after = after
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def due(self, step: int) -> bool:
        """Whether to stop now that `step` updates are done."""
        return self._signal is not None or (self._after is not None and step >= self._after)

    def __enter__(self) -> "Stop":
        self._previous = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
