"""The training loop.

All state is in five checkpointable components: the model's parameters, the optimizer, the learning-rate schedule, the
data iterator and the generator of the dropout masks. This project calls them state machines: each has `state`, which
returns a copy of its whole state, and `restore`, which sets it. Saving these five saves the run; a setting that keeps
more state adds a machine of its own.
"""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from impl.data.iterator import DataIterator
from impl.data.windows import Counters, Windows
from impl.errors import SkippedUpdate, UsageError
from impl.evaluate import evaluate, within_budget
from impl.model.dropout import Dropout
from impl.model.parameters import parameter_shapes
from impl.optim.choice import optimizer_of
from impl.precision import model_of, precision_machines, precision_of
from impl.report import live_samples
from impl.report.progress import Progress
from impl.report.status import status_line
from impl.report.tracking import Tracker
from impl.rng import ControlRNG
from impl.run import checkpoint
from impl.run.checkpoint import Best, Checkpoint, Expected
from impl.run.clock import ZERO_TIME, Clock, Spent
from impl.run.collector import Collector
from impl.run.directory import BEST, CHECKPOINTS, LOG, Run
from impl.run.log import TrainLog, starts_with, with_hex
from impl.run.state_machines import StateMachines
from impl.steering.cadence import due
from impl.steering.steering import Steering, schedule_of, total_updates
from impl.steering.steering import machines as steering_machines
from impl.update import refuse_non_finite, update


def train(
    run: Run, machines: StateMachines, start: Checkpoint | None, log: TrainLog, tracker: Tracker, stop: "Stop"
) -> tuple[Best | None, Spent]:
    """Train until the last step or until `stop`; every step is in the log, the last one in a checkpoint.

    `start` is the checkpoint that the machines were restored from. Returns the best evaluation so far and the time that
    the run has taken. Raises NonFiniteError before a NaN or an infinity reaches a parameter.
    """
    config, total = run.config, total_updates(run.config, len(run.sequences["train"]))
    steering = Steering(config, machines.options, total)
    model, optimizer, scheduler = machines.model, machines.optimizer, machines.scheduler
    how: dict[str, Any] = {"clip_norm": config.optimizer.clip_norm, "refuse": steering.refuse_explosion}
    how |= precision_of(machines.options)
    validation = within_budget(run.sequences["val"], config.evaluation.token_budget)
    best, saved_step = (start.best, start.step) if start else (None, None)
    clock = Clock(start.spent if start else ZERO_TIME)
    full_line, collector = status_line(config, clock), Collector(config.report.collector == "quiet")

    def save(folder: Path = run.path / CHECKPOINTS) -> int:
        """Write a checkpoint of the step that is done; its number."""
        run_id, position = run.manifest.run_id, log.position()
        checkpoint.save(folder, run_id, scheduler.step, machines.named(), position, best, clock.spent())
        tracker.sync()
        return scheduler.step

    with Progress(total, scheduler.step, full_line) as progress, collector:
        while scheduler.step < steering.last(scheduler.step) and not stop.due(scheduler.step):
            clock.start_step()
            batches = machines.windows.next()
            dropout = Dropout(config.dropout, *machines.control.next_step())
            try:
                metrics = steering.update(
                    batches, partial(update, model, optimizer, scheduler, dropout, **how)
                )
            except SkippedUpdate:
                continue
            clock.end_step(metrics.tokens)
            step = scheduler.step
            more = steering.after_update(model, metrics.loss, metrics.tokens) | machines.count(metrics.tokens)
            record = {"step": step, "epoch": machines.data.epoch, **metrics.record(), **more}
            if due(step, config.eval_every, steering.last(step)):
                with steering.averaged(model):
                    score = evaluate(model, validation, config.batch_size)
                refuse_non_finite(step, validation_perplexity=score.perplexity)
                record |= {"val_loss": score.loss, "val_ppl": score.perplexity}
                steering.after_evaluation(score.loss, step)
                if best is None or score.loss < best["val_loss"]:
                    best = {"step": step, "val_loss": score.loss}
            log.append(with_hex(record, ("loss", "objective", "lr", "grad_norm", "val_loss", "val_ppl")))
            progress.show(record)
            live_samples.take(run, model, step, steering.last(step))
            if due(step, config.checkpoint_every, steering.last(step)):
                saved_step = save()
            if config.keep_best and best and best["step"] == step:
                save(run.path / BEST)
                checkpoint.remove_all_but(run.path / BEST, step)
            collector.step_done(saved=saved_step == step)
        if saved_step != scheduler.step:
            save()
    return best, clock.spent()


def build(run: Run) -> StateMachines:
    """The five state machines in their initial state, and those of the settings."""
    config = run.config
    model = model_of(config)
    data = DataIterator(run.sequences["train"], config.batch_size, config.seed)
    counters = Counters(data.tokens_an_epoch) if config.counters or config.accumulate > 1 else None
    options = {**steering_machines(config, model), **precision_machines(config)}
    if counters:
        options["counters"] = counters
    total = total_updates(config, len(run.sequences["train"]))
    return StateMachines(
        model,
        optimizer_of(config, parameter_shapes(config.model)),
        schedule_of(config, total, options.get("budget")),
        data,
        ControlRNG(config.seed),
        Windows(data, config.accumulate, config.leftover, counters),
        options,
    )


def finished(run: Run, machines: StateMachines) -> bool:
    """Whether nothing is left to train: the last step is done, or a setting has ended the run before it."""
    total, step = total_updates(run.config, len(run.sequences["train"])), machines.scheduler.step
    return step >= Steering(run.config, machines.options, total).last(step)


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
