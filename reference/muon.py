"""Muon: the momentum of a matrix, orthogonalised by a polynomial iteration; with NorMuon and cautious decay.

For a matrix of r outputs and c inputs, G its gradient, M its momentum from 0:

    1. M = mu M + (1 - mu) G,  L = mu M + (1 - mu) G                          Nesterov's look ahead, of averages
    2. X = L / start(||L||_F), so that no singular value is above 1
       for (a, b, c) of five steps: A = X X^T,  X = a X + (b A + c A A) X     or of X^T, where that is the wide one
    3. NorMuon: v = mean of X^2 along a row (r >= c) or a column (r < c),  S = beta2 S + (1 - beta2) v,  S from 0
       X = X / sqrt(max(S, 1e-10)), scaled to the Frobenius norm that X had before
    4. W = W - e X - e wd W, where X W >= 0 ("cautious"), else W = W - e X;  e = lr sqrt(max(1, r / c))

Step 2 maps the singular values: X = U f(s) V^T, f the composition of a s + b s^3 + c s^5, and s = 1 is where the domain
of f ends: s = 1.05 diverges. Hence the factor above 1 in `start`.

Variants: `coefficients` "newton-schulz" repeats one triple; `start` and `decay` are the tables below; `average`
"corrected" has L = mu M / (1 - mu^(t+1)) + (1 - mu) G / (1 - mu^t), t from 1; `normuon` "none" has no step 3; `scale`
"rms" has e = 0.2 lr sqrt(max(r, c)); `arithmetic` "bfloat16" rounds what step 2 takes, and every result in it.

Sources: Jordan et al., "Muon", 2024; Amsel et al., "The Polar Express", arXiv 2505.16932; Li et al., "NorMuon", arXiv
2510.05491; Chen et al., "Cautious weight decay", arXiv 2510.12402; Liu et al., "Muon is scalable for LLM training",
arXiv 2502.16982 (rms); karpathy/autoresearch, torch.optim.Muon and optax.contrib.muon, whose choices differ.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from reference.arithmetic import HALVES, SINGLE
from reference.traced_array import TracedArray

Matrices = Float[np.ndarray, "*stack r c"]

STEPS = 5
COEFFICIENTS = {
    "polar express": (
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
    ),
    "newton-schulz": ((3.4445, -4.7750, 2.0315),) * STEPS,
}
"""(a, b, c) of each step."""
START = {
    "1.02 norm + 1e-6": (1.02, 1e-6, 0.0),
    "1.01 norm + 1e-6": (1.01, 1e-6, 0.0),
    "max(norm, 1e-7)": (1.0, 0.0, 1e-7),
    "norm + 1e-8": (1.0, 1e-8, 0.0),
}
"""What the matrix is divided by: max(factor norm + added, least)."""
LEAST_SQUARE = 1e-10
"""NorMuon's least second moment."""


def mapped(s: float, coefficients: str = "polar express") -> float:
    """f(s): what becomes of a singular value."""
    for a, b, c in COEFFICIENTS[coefficients]:
        s = a * s + b * s**3 + c * s**5
    return s


def total(x: Matrices) -> Float[np.ndarray, "*stack 1 1"]:
    """The sum over each matrix."""
    return x.sum(axis=-1, keepdims=True).sum(axis=-2, keepdims=True)


def started(x: Matrices, start: str) -> Matrices:
    """Each matrix of a stack divided by a little more than its Frobenius norm."""
    factor, added, least = START[start]
    norm = np.sqrt(total(x * x))
    return x / np.maximum(norm * factor + added, least)


def coarse(x: Any, arithmetic: str) -> Any:
    """The values of x as they are; the errors of a traced array with those of a rounding to this arithmetic.

    Of which its unit roundoff is then taken to be single precision's, and bfloat16's larger in proportion.
    """
    if arithmetic == "dtype" or not isinstance(x, TracedArray):
        return x
    rounded = type(x)(x.parts, x.unit * (HALVES["bfloat16"] / SINGLE)) * 1.0
    return type(x)(rounded.parts, x.unit)


def iterated(x: Matrices, coefficients: str, arithmetic: str = "dtype") -> Matrices:
    """The five steps, on whichever of X and X^T is wide."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x
    for a, b, c in COEFFICIENTS[coefficients]:
        square = coarse(x @ x.swapaxes(-1, -2), arithmetic)
        x = coarse(a * x + coarse(b * square + c * (square @ square), arithmetic) @ x, arithmetic)
    return x.swapaxes(-1, -2) if tall else x


def orthogonalize(
    g: Matrices,
    *,
    coefficients: str = "polar express",
    start: str = "1.02 norm + 1e-6",
    arithmetic: str = "dtype",
) -> Matrices:
    """Each matrix of a stack with its singular values moved near 1; 0 stays 0."""
    x = coarse(started(coarse(g, arithmetic), start), arithmetic)
    return iterated(x, coefficients, arithmetic)


def orthogonalize_heads(g: Matrices, heads: int, axis: int, **how: str) -> Matrices:
    """The matrix of each head on its own; the heads lie side by side along `axis`, -2 or -1, whose length they divide.

    A projection to the heads, [heads * K, D], is cut along its outputs, -2; the projection from them along its inputs.
    """
    size = g.shape[axis] // heads
    ranges = [slice(i * size, (i + 1) * size) for i in range(heads)]
    parts = [g[..., part, :] if axis == -2 else g[..., part] for part in ranges]
    return np.concatenate([orthogonalize(part, **how) for part in parts], axis=axis)


def look_ahead(g: Matrices, momentum: Matrices, mu: float, t: int, average: str) -> tuple[Matrices, Matrices]:
    """(L, M) of update t, from 1."""
    momentum = mu * momentum + (1.0 - mu) * g
    if average == "average":
        return mu * momentum + (1.0 - mu) * g, momentum
    return (mu / (1.0 - mu ** (t + 1))) * momentum + ((1.0 - mu) / (1.0 - mu**t)) * g, momentum


def normalised(x: Matrices, second: Any, beta2: float) -> tuple[Matrices, Any]:
    """(X, S) of NorMuon; S is [*stack r 1] if r >= c, else [*stack 1 c]."""
    axis = -1 if x.shape[-2] >= x.shape[-1] else -2
    count = float(x.shape[axis])
    square = (x * x).sum(axis=axis, keepdims=True) / count
    second = beta2 * second + (1.0 - beta2) * square
    scaled = x / np.sqrt(np.maximum(second, LEAST_SQUARE))
    before, after = np.sqrt(total(x * x)), np.sqrt(total(scaled * scaled))
    return scaled * (before / np.maximum(after, LEAST_SQUARE)), second


def scale_of(shape: tuple[int, ...], scale: str) -> float:
    """By what the rate of a matrix, or of each matrix of a stack, is multiplied; `shape` is [*stack, r, c]."""
    rows, columns = shape[-2:]
    return math.sqrt(max(1.0, rows / columns)) if scale == "shape" else 0.2 * math.sqrt(max(rows, columns))


def direction(
    g: Matrices,
    momentum: Matrices,
    second: Any,
    *,
    t: int,
    mu: float,
    beta2: float,
    coefficients: str = "polar express",
    start: str = "1.02 norm + 1e-6",
    arithmetic: str = "dtype",
    average: str = "average",
    normuon: str = "normuon",
) -> tuple[Matrices, Any]:
    """(X, S) of update t: steps 1 to 3."""
    ahead, _ = look_ahead(g, momentum, mu, t, average)
    x = orthogonalize(ahead, coefficients=coefficients, start=start, arithmetic=arithmetic)
    return normalised(x, second, beta2) if normuon == "normuon" else (x, second)


def applied(p: Matrices, x: Matrices, lr: float, weight_decay: float, scale: float, decay: str) -> Matrices:
    """W after step 4, in one of the readings in use:

    cautious           where X W >= 0, at the scaled rate       autoresearch
    cautious strict    where X W > 0, at the scaled rate
    adjusted           everywhere, at the scaled rate
    unadjusted         everywhere, at the rate lr itself        torch.optim.Muon, optax.contrib.muon
    """
    rate = lr * scale
    if decay == "unadjusted":
        return p * (1.0 - lr * weight_decay) - rate * x + 0.0 * p
    return p - (rate * x + (rate * weight_decay) * np.where(decaying(p, x, decay), p, 0.0 * p)) + 0.0 * p


def decaying(p: Matrices, x: Matrices, decay: str) -> Any:
    """Which entries decay, bool of the shape of p: by the signs alone, since a product of small numbers may be 0."""
    signs = np.sign(p) * np.sign(x)
    if decay == "cautious":
        return signs >= 0.0
    return signs > 0.0 if decay == "cautious strict" else signs == signs


def muon_step(
    p: Matrices,
    g: Matrices,
    momentum: Matrices,
    second: Any,
    *,
    t: int,
    lr: float,
    mu: float,
    beta2: float,
    weight_decay: float,
    scale: str = "shape",
    decay: str = "cautious",
    **how: str,
) -> tuple[Matrices, Matrices, Any]:
    """(p, momentum, second) after update number t, from 1, of a stack of matrices, each on its own.

    `second` is that of `normalised`, and comes back as it was where there is none; the keywords in `how` are those of
    `direction`.
    """
    x, new_second = direction(g, momentum, second, t=t, mu=mu, beta2=beta2, **how)
    _, momentum = look_ahead(g, momentum, mu, t, how.get("average", "average"))
    return applied(p, x, lr, weight_decay, scale_of(p.shape, scale), decay), momentum, new_second


def momentum_at(
    step: int, *, start: float, peak: float, final: float, ramp: int, cooldown: int, total: int
) -> float:
    """Momentum of update `step`, from 0, of `total`: a line from `start` to `peak` over `ramp` updates, then `peak`.

    In the last `cooldown` updates it is a line to `final`, which the last update has; none if that is 0. A ramp that is
    longer than what is left of the run is shortened, so that the peak is reached.
    """
    last = total - 1
    cooldown = min(cooldown, last)
    ramp = min(ramp, last - cooldown)
    if cooldown and step > last - cooldown:
        return peak + (final - peak) * (min(step - last + cooldown, cooldown) / cooldown)
    return start + (peak - start) * (step / ramp) if step < ramp else peak


def weight_decay_at(step: int, *, initial: float, total: int, schedule: str = "linear") -> float:
    """Decay of update `step`, from 0, of `total`: `initial` at first, 0 at `total` and after it, unless "constant"."""
    progress = min(step / total, 1.0)
    if schedule == "constant":
        return initial
    if schedule == "linear":
        return initial * (1.0 - progress)
    return initial * 0.5 * (1.0 + math.cos(math.pi * progress))
