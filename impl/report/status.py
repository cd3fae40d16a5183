"""The full line of a step: what the log has, and what the clock and the machine say."""

from collections.abc import Callable, Mapping
from typing import Any

from impl.config import Config
from impl.report.flops import flops_per_token, mfu
from impl.report.log_line import Status, line
from impl.report.machine import cpu_percent
from impl.report.memory import peak_memory_bytes
from impl.run.clock import Clock


def status_line(config: Config, clock: Clock) -> Callable[[Mapping[str, Any]], str] | None:
    """What makes the line of a record of the log; None if the short one is asked for."""
    if config.report.line == "short":
        return None
    flops = flops_per_token(config.model.model_dump())

    def made(record: Mapping[str, Any]) -> str:
        speed, left = clock.speed(config.steps - record["step"])
        peak = config.report.peak_flops or None
        used = mfu(flops, record["tokens"], clock.last_step, peak, 1) if clock.last_step else None
        return line(
            Status(
                step=record["step"],
                steps=config.steps,
                loss=record["loss"],
                lrm=record["lr"] / config.optimizer.peak_lr,
                dt=1e3 * clock.last_step,
                tokens_per_second=speed,
                mfu=used,
                epoch=record["epoch"],
                eta=left,
                memory=peak_memory_bytes(),
                cpu=cpu_percent(),
                val_ppl=record.get("val_ppl"),
            )
        )

    return made
