"""How fast a run is, how long it will take, what it costs, and where the time of a step goes.

    tokens a second = tokens of the timed steps / seconds inside the timed steps
    time left       = updates still to be made * mean seconds of a timed step

The first steps of each process compile and fill caches: they are left out of tokens and seconds alike. What happens
between two steps, an evaluation or a save, is no part of either. Steps that earlier processes of the run have done
count as done, not as timed.

    cost = hours * price of a device's hour * devices

summed over the processes of a run; a process is billed by the second, or by the hours that it has begun.

    share of a phase = time of its spans within the step / duration of the step

Only what the training's own thread does is counted, cut to the step: work in the background costs the step nothing, and
what began before it belongs to the step before. What no span covers is "idle", so that the shares sum to 1.

Sources: github.com/hiyouga/LlamaFactory/issues/10739; github.com/MedARC-AI/nanopath/pull/12;
github.com/lightly-ai/lightly-train/pull/749; github.com/fabianwimberger/cloud-bench/pull/221.
"""

import math
from collections.abc import Sequence

HOUR = 3600.0
IDLE = "idle"


def tokens_per_second(
    steps: Sequence[tuple[float, float, int]], *, excluded: int, done: int, total: int
) -> tuple[float | None, float | None]:
    """(tokens a second, seconds left) after the steps of this process, each (began, ended, tokens).

    `excluded` of them, the first, are not timed; `done` updates were made before; `total` is the run's length. Both are
    None if no step was timed.
    """
    timed = steps[excluded:]
    if not timed:
        return None, None
    seconds = sum(ended - began for began, ended, _ in timed)
    left = (total - done - len(steps)) * seconds / len(timed)
    return sum(tokens for *_, tokens in timed) / seconds, left


def cost(seconds: Sequence[float], *, price: float, devices: int, billed: str = "second") -> float:
    """What the processes of a run cost that took these seconds; `price` of one device's hour."""
    hours = [s / HOUR for s in seconds]
    if billed == "hour":
        hours = [float(math.ceil(h)) for h in hours]
    return sum(hours) * price * devices


def step_profile(
    spans: Sequence[tuple[str, int, float, float]], began: float, ended: float
) -> dict[str, float]:
    """Share of each phase in the step from `began` to `ended`, and of "idle"; they sum to 1.

    A span is (phase, thread, its beginning, its end); thread 0 trains, and its spans do not overlap.
    """
    duration = ended - began
    seconds = dict.fromkeys((phase for phase, *_ in spans), 0.0)
    for phase, thread, start, end in spans:
        if thread == 0:
            seconds[phase] = seconds[phase] + max(min(end, ended) - max(start, began), 0.0)
    idle = duration - sum(seconds.values())
    return {phase: s / duration for phase, s in seconds.items()} | {IDLE: idle / duration}
