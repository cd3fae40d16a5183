"""Learning rate: linear warm-up, then a half cosine to a floor, or a line, or no change. Step s counts updates from 0.

W is the number of warm-up steps, N the horizon, and r the progress of the cosine:
    rate = floor + (peak - floor) (1 + cos(pi r)) / 2
Source: Loshchilov, Hutter, "SGDR", ICLR 2017, equation 5, with warm-up (Goyal et al., 2017). Code bases differ in
where the two parts begin and end:

                 warm-up, s < W     r, s >= W                  from the horizon on
    honestloop   (s + 1) / W        (s - W + 1) / (N - W)      s >= N: floor; W is at most N
    nanogpt      (s + 1) / (W + 1)  (s - W) / (N - W)          s > N: floor
    llm.c        (s + 1) / W        (s - W) / (N - W)          s > N: refused by an assertion
    huggingface  s / max(1, W)      (s - W) / max(1, N - W)    rises again
    cs336        s / W              (s - W) / (N - W)          s > N: floor; OLMo's as well
    torchtitan   (s + 1) / W        (s - W + 1) / (N - W)      rises again
    optax        s / W              (s - W) / (N - W)          s > N: floor; N is its `decay_steps`

Two without a cosine, transformers' get_linear_schedule_with_warmup (its Trainer's default) and its constant one:

    linear       s / max(1, W)      floor + (peak - floor) max(0, N - s) / max(1, N - W)
    constant     s / max(1, W)      peak

    uncut        (s + 1) / W        (s - W + 1) / (N - W)      s >= N: floor; W may be above N

A third kind is constant between warm-up and decay. nanochat's and picoLLM's, with D = round(0.65 N):

    warmdown     (s + 1) / W        peak until s = N - D, then floor + (peak - floor) (N - s) / D; nothing for s > N

autoresearch's is of this kind too, by the share of the time that is used, and so no function of the step.

In `honestloop` the first update already moves, the peak is used once and the floor by the last update (s = N - 1).
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One line of the table."""

    warm: tuple[int, int] = (0, 0)
    """Warm-up is (s + warm[0]) / (W + warm[1])."""
    ahead: int = 0
    """The cosine is read this many steps ahead."""
    end: str = "floor"
    """After the horizon: the floor, nothing ("refused"), or the cosine goes on ("rises")."""
    shape: str = "cosine"
    """What follows the warm-up."""


VARIANTS = {
    "honestloop": Variant(warm=(1, 0), ahead=1),
    "nanogpt": Variant(warm=(1, 1)),
    "llm.c": Variant(warm=(1, 0), end="refused"),
    "huggingface": Variant(end="rises"),
    "cs336": Variant(),
    "torchtitan": Variant(warm=(1, 0), ahead=1, end="rises"),
    "optax": Variant(),
    "linear": Variant(shape="linear"),
    "constant": Variant(shape="constant"),
    "uncut": Variant(warm=(1, 0), ahead=1),
    "warmdown": Variant(warm=(1, 0), shape="warmdown", end="refused"),
}
WARMDOWN_SHARE = 0.65
"""D / N of nanochat's and picoLLM's defaults."""
WARMS_UP_FROM_ZERO = ("huggingface", "linear", "constant")
"""Those of transformers: defined for every step, whatever W and N are."""


def learning_rate(
    step: int, *, peak: float, floor: float, warmup: int, total: int, schedule: str = "honestloop"
) -> float:
    """Rate of update `step`, counted from 0. ValueError where the variant says nothing (see `defined`)."""
    if not defined(step, warmup=warmup, total=total, schedule=schedule):
        raise ValueError(f"{schedule} has no rate for step {step} of {total} with {warmup} steps of warm-up")
    variant = VARIANTS[schedule]
    warmup = min(warmup, total) if schedule == "honestloop" else warmup
    if step < warmup:
        return peak * (step + variant.warm[0]) / (warmup + variant.warm[1])
    if variant.shape == "constant":
        return peak
    if variant.shape == "linear":
        return floor + (peak - floor) * max(0, total - step) / max(1, total - warmup)
    if variant.shape == "warmdown":
        length = round(WARMDOWN_SHARE * total)
        return floor + (peak - floor) * (1.0 if step <= total - length else (total - step) / length)
    ratio = progress(step, warmup=warmup, total=total, schedule=schedule)
    if variant.end == "floor" and ratio > 1.0:
        return floor
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * ratio))


def progress(step: int, *, warmup: int, total: int, schedule: str = "honestloop") -> float:
    """How far the cosine is at a step after the warm-up: 1 at its end; infinite after a cosine of no length."""
    length = total - min(warmup, total) if schedule == "honestloop" else total - warmup
    done = step - (total - length) + VARIANTS[schedule].ahead
    if schedule in WARMS_UP_FROM_ZERO:
        length = max(1, length)
    return done / length if length > 0 else math.inf


def defined(step: int, *, warmup: int, total: int, schedule: str = "honestloop") -> bool:
    """Whether the variant has a rate for this step: some divide by N - W, and llm.c asserts that s <= N."""
    if schedule == "warmdown":
        return step <= total
    if (
        schedule in ("honestloop", "uncut")
        or schedule in WARMS_UP_FROM_ZERO
        or (step < warmup and schedule != "optax")
    ):
        return True
    if schedule in ("nanogpt", "cs336") and step > total:
        return True
    return warmup < total and (schedule != "llm.c" or step <= total)
