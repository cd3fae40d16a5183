"""Learning rate: linear warm-up, then a half cosine down to a floor.

Step s counts updates from 0, N is their number, W the number of warm-up steps (at most N):
    s < W       peak * (s + 1) / W                the first update already moves; the peak is used once
    W <= s < N  floor + (peak - floor) (1 + cos(pi (s - W + 1) / (N - W))) / 2     the floor is used by the last update
    s >= N      floor
Source: Loshchilov, Hutter, "SGDR", ICLR 2017, equation 5, with warm-up (Goyal et al., 2017).
"""

import math


def learning_rate(step: int, *, peak: float, floor: float, warmup: int, total: int) -> float:
    """Rate of update `step`, counted from 0."""
    warmup = min(warmup, total)
    if step < warmup:
        return peak * (step + 1) / warmup
    if step < total:
        angle = math.pi * ((step - warmup + 1) / (total - warmup))
        return floor + (peak - floor) * 0.5 * (1.0 + math.cos(angle))
    return floor
