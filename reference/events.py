"""What happens at which update of a run: updates, evaluations, samples and checkpoints, and how many updates it has.

    N = the smaller of `steps` and the updates of `epochs` passes over `batches` micro-batches, `accumulate` an update
    an event of cadence c > 0 follows update s    iff    c divides s, or s = N

Micro-batches left over at the end of an epoch: an update of their own (ceil(batches / accumulate) an epoch), dropped
(floor), or carried into the next epoch (floor(epochs batches / accumulate) in all). A cadence of 0 or below is off, at
the last update too. A run that goes on after `start` updates has the events of the whole run that are still to come.
Where the first evaluation is "at the start", it comes before the first update as well, and before the first one of a
run that goes on, if its cadence divides the updates done so far.

Source: the set comprehension above; "evaluates before saving", so that a checkpoint knows of its own evaluation.
"""

import math
from typing import Any

KINDS = ("train", "evaluate", "sample", "save")
"""In the order in which they follow one another at an update; sampling may come anywhere after it."""


def run_length(settings: dict[str, Any], *, leftover: str = "update") -> int:
    """N, the number of updates; of `steps` and `epochs` one may be None."""
    limits = [settings["steps"]] if settings["steps"] is not None else []
    if settings["epochs"] is not None:
        epochs, batches, accumulate = (settings[name] for name in ("epochs", "batches", "accumulate"))
        whole = {
            "update": epochs * math.ceil(batches / accumulate),
            "drop": epochs * (batches // accumulate),
            "carry": epochs * batches // accumulate,
        }
        limits.append(whole[leftover])
    return min(limits)


def schedule_of_events(
    settings: dict[str, Any], *, leftover: str = "update", first_evaluation: str = "after an update"
) -> list[tuple[int, str]]:
    """(updates done, kind) of every event in order, from `start` updates on.

    `settings`: steps, epochs, batches, accumulate, eval_every, sample_every, save_every, start.
    """
    last, start = run_length(settings, leftover=leftover), settings["start"]
    every = {"evaluate": settings["eval_every"], "sample": settings["sample_every"]}
    every |= {"save": settings["save_every"]}
    found: list[tuple[int, str]] = []
    if first_evaluation == "at the start" and every["evaluate"] > 0:
        found += [(start, "evaluate")] if start % every["evaluate"] == 0 or start == last else []
    for update in range(start + 1, last + 1):
        found.append((update, "train"))
        found += [
            (update, kind) for kind, c in every.items() if c > 0 and (update % c == 0 or update == last)
        ]
    return found
