"""What happens after which update, and after how many a run ends."""

import math
from typing import Any

EVENTS = {"evaluate": "eval_every", "sample": "sample_every", "save": "save_every"}
"""Kind of event -> the setting that has its cadence, in the order in which they follow an update."""


def due(step: int, every: int, last: int) -> bool:
    """Whether an event of this cadence follows update `step`, counted from 1: each `every`, and the last one.

    A cadence of 0 or below is off, at the last update too.
    """
    return every > 0 and (step % every == 0 or step == last)


def run_length(
    *, steps: int | None, epochs: int | None, batches: int, accumulate: int, leftover: str = "update"
) -> int:
    """Updates of a run: `steps`, or those of whole epochs of `batches` micro-batches, or the fewer of both.

    What is left over at the end of an epoch is an update of its own, or is dropped, or carried into the next epoch.
    ValueError if neither is given.
    """
    limits = [] if steps is None else [steps]
    if epochs is not None:
        whole = {"drop": epochs * (batches // accumulate), "carry": epochs * batches // accumulate}
        limits.append(whole.get(leftover, epochs * math.ceil(batches / accumulate)))
    return min(limits)


def schedule_of_events(settings: dict[str, Any]) -> list[tuple[int, str]]:
    """(updates done, kind) of every event of a run in order, from `start` updates on.

    `settings`: steps, epochs, batches, accumulate, eval_every, sample_every, save_every, start.
    """
    length = {name: settings[name] for name in ("steps", "epochs", "batches", "accumulate")}
    last = run_length(**length)
    found: list[tuple[int, str]] = []
    for step in range(settings["start"] + 1, last + 1):
        found.append((step, "train"))
        found += [(step, kind) for kind, every in EVENTS.items() if due(step, settings[every], last)]
    return found
