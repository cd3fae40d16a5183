"""`python -m impl profile`: where the time of one training step of a run goes.

The step is the loop's own: its parts are watched from outside. Forward and backward pass are one kernel, so they are
one phase; the forward pass alone is timed beside it, on the same batch. Nothing of the run directory is changed.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from impl import loop
from impl.model.dropout import Dropout
from impl.report.profile import Spans, chrome_trace, step_profile, table
from impl.run import directory as runs
from impl.run.files import write_json
from impl.run.state_machines import StateMachines
from impl.update import update

WARM = 3
"""Steps before the one that is watched: kernels are read from their cache, buffers are made."""
PHASES = {
    "data": ("data", "next_batch"),
    "masks": ("control", "next_step"),
    "forward and backward": ("model", "accumulate"),
    "sum of gradients": ("model", "finish_gradients"),
    "optimizer": ("optimizer", "update"),
}
"""Phase -> the state machine and the method that it is."""


def profile(run_path: Path, out: Path | None) -> str:
    """The table of one step of a run, from its newest checkpoint on; `out`, if any, gets the trace as JSON."""
    run = runs.reopen(run_path)
    machines = loop.build(run)
    loop.restore_newest(run, machines, lambda line: None)
    step = functools.partial(_step, machines, run.config.dropout, run.config.optimizer.clip_norm)
    for _ in range(WARM):
        step(run.config.micro_batches)
    spans = Spans()
    for phase, (machine, method) in PHASES.items():
        watch(spans, phase, getattr(machines, machine), method)
    began = spans.clock()
    batch = step(run.config.micro_batches)
    ended = spans.clock()
    forward = time.perf_counter()
    machines.model.nll(batch)
    forward = time.perf_counter() - forward
    if out:
        write_json(out, chrome_trace(spans.found, f"step of {run_path}"))
    shares = step_profile(spans.found, began, ended)
    return f"{table(shares, ended - began)}\nforward pass alone, without dropout: {1e3 * forward:.3f} ms"


def _step(machines: StateMachines, dropout: float, clip: float, micro_batches: int) -> Any:
    """One step as the loop does it; the batch that it read."""
    batch = machines.data.next_batch()
    key, number = machines.control.next_step()
    window = batch.split(micro_batches)
    update(
        machines.model, machines.optimizer, machines.scheduler, Dropout(dropout, key, number), window, clip
    )
    return batch


def watch(spans: Spans, phase: str, machine: Any, method: str) -> None:
    """From now on, note when this method of this object begins and ends."""
    original: Callable[..., Any] = getattr(machine, method)

    @functools.wraps(original)
    def watched(*args: Any, **kwargs: Any) -> Any:
        with spans.phase(phase):
            return original(*args, **kwargs)

    setattr(machine, method, watched)
