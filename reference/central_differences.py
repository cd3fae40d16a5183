"""Is this the gradient of that loss?  The loss is asked at weights moved along a direction d, in double precision.

    D(h) = (L(p + h d) - L(p - h d)) / 2h  =  <L'(p), d> + c h^2 + O(h^4)
    E    = D(h) + (D(h) - D(2h)) / 3       =  <L'(p), d>         + O(h^4)

<g, d> must be E, for d = g, for three random directions over everything and for one in each tensor. With d Gaussian, an
error e of the gradient shows as |e| times a normal number, however many parameters there are; the direction within one
tensor shows an error there at full size. To it three times the unit vector along the tensor's own gradient is added, so
that one which is too long or too short does not hide where the normal number is small. How far a correct gradient may
be from E is the sum of

    truncation   |D(h) - D(2h)| / 3: the whole correction, which is the error of D(h); E's own is smaller
    rounding     2 noise / h: E is 4/3 D(h) - 1/3 D(2h), hence at most 1.5 times the error of a loss over h. The noise
                 is measured: what one ulp in every weight does to the loss, and at least 8 u |L|
    recovery     6 sqrt(sum (b d)^2), b being the bound of each number of g that was recovered from moments: rounding
                 errors are independent (Higham and Mary 2019), so that six deviations are not exceeded
    backward     of a gradient that was computed in arithmetic of unit roundoff u: 128 u |g| in the direction's tensors,
                 and 8 u |g of everything|, for a tensor whose own gradient is rounding alone (a bias before a softmax)

The step is 2^-12 in the Euclidean norm, whatever the direction: far above the noise and far below the scale on which a
loss bends. All numbers of one question are asked at once, so that a hundred differences are one process.

Source: Richardson 1911, "The approximate arithmetical solution by finite differences", section 1.2; Higham and Mary
2019, "A new approach to probabilistic rounding error analysis", SIAM Journal on Scientific Computing 41.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reference.arithmetic import DOUBLE

Tensors = Mapping[str, Float[np.ndarray, "..."]]
Losses = Callable[[Iterable[Tensors]], list[float]]
"""The loss at each of several weights, float64, in order."""

STEP = 2.0**-12
OFFSETS = (1, -1, 2, -2)
EVERYWHERE = 3
NUDGES = 4
RELATIVE, FLOOR = 128.0, 8.0  # unit roundoffs: of the gradient in the direction's tensors, and of the whole
DEVIATIONS = 6.0
OWN = 3.0
SLIGHTLY = 2.0**-28
ALONG = "everything, along the gradient itself"


class NotInDouble(ValueError):
    """The loss is not a function of the weights in double precision; one line that says what it is."""


@dataclass(frozen=True)
class Recovered:
    """A gradient, as it was before clipping, and by how much each number of it may be off; float64, by name."""

    values: Tensors
    bounds: Tensors
    unit: float
    """Unit roundoff of the arithmetic in which the subject computed it."""

    @property
    def norm(self) -> float:
        """The Euclidean norm of all of it."""
        return norm(self.values)


@dataclass(frozen=True)
class Direction:
    """Where the weights are moved: a name for people, and the tensors that move."""

    name: str
    parts: Tensors


@dataclass(frozen=True)
class Comparison:
    """Along one direction: <g, d>, the loss's own derivative, and how far the two may be apart."""

    direction: str
    said: float
    found: float
    bound: float

    @property
    def share(self) -> float:
        """The error as a share of the bound: above 1 the gradient is not the loss's. NaN counts as infinite."""
        share = abs(self.said - self.found) / self.bound
        return math.inf if math.isnan(share) else share


def norm(tensors: Tensors) -> float:
    """The Euclidean norm of tensors of any shape together."""
    return math.sqrt(math.fsum(float(np.vdot(x, x)) for x in tensors.values()))


def _dot(a: Tensors, b: Tensors) -> float:
    return math.fsum(float(np.vdot(a[name], x)) for name, x in b.items())


def directions(values: Tensors, seed: int) -> Iterator[Direction]:
    """The gradient itself, some random directions over everything, and one within each tensor; of its shapes."""
    chance = np.random.default_rng(seed)
    if norm(values) > 0:
        yield Direction(ALONG, values)
    for number in range(EVERYWHERE):
        drawn = {name: chance.standard_normal(x.shape) for name, x in values.items()}
        yield Direction(f"everything, random direction {number + 1}", drawn)
    for name, x in values.items():
        drawn_here = chance.standard_normal(x.shape)
        length = math.sqrt(float(np.vdot(x, x)))
        yield Direction(name, {name: drawn_here + OWN * x / length if length > 0 else drawn_here})


def moved(weights: Tensors, direction: Direction, amount: float) -> Tensors:
    """The weights, in their shapes, the direction's tensors of them moved by `amount` times the direction."""
    return {n: x + amount * direction.parts[n] if n in direction.parts else x for n, x in weights.items()}


def _nudged(weights: Tensors, gradient: Recovered, relative: float, seed: int) -> Tensors:
    """Every weight that has a gradient, times 1 + relative or 1 - relative, drawn."""
    chance = np.random.default_rng(seed)
    factors = {n: 1 + relative * chance.choice((-1.0, 1.0), weights[n].shape) for n in gradient.values}
    return {n: x * factors[n] if n in factors else x for n, x in weights.items()}


@dataclass(frozen=True)
class LossAt:
    """The loss at the weights of an update, and what rounding does to it."""

    value: float
    noise: float
    """In double precision: what one ulp in every weight changes."""
    spread: float
    """What one unit roundoff of the subject's own arithmetic in every weight changes."""


def loss_at(losses: Losses, weights: Tensors, gradient: Recovered) -> LossAt:
    """The loss and its rounding, scalars. NotInDouble for a loss of which no difference can be taken.

    A loss of weights that were rounded to single precision does not move when they move by 2^-28 of themselves to
    either side; one with anything else in single precision moves in steps, and its second difference is no rounding.
    """
    nudges = [(2.0**-52, seed) for seed in range(NUDGES)]
    nudges += [(sign * SLIGHTLY, seed) for seed in range(NUDGES // 2) for sign in (1, -1)]
    nudges += [(gradient.unit, seed) for seed in range(NUDGES)]
    at, again, *answers = losses(
        [weights, weights, *(_nudged(weights, gradient, *nudge) for nudge in nudges)]
    )
    if not all(map(math.isfinite, (at, again, *answers))):
        raise NotInDouble(
            f"the loss is {at!r} at the update's weights: it is not finite there, or beside them"
        )
    if at != again:
        raise NotInDouble(f"the loss of the same weights and rows is {at!r}, then {again!r}: is dropout on?")
    if all(answer == float(np.float32(answer)) for answer in (at, *answers)):
        raise NotInDouble(
            f"the loss is a float32 number ({at!r}): its differences are rounding; compute it in float64"
        )
    noise, slight, spread = ([x - at for x in answers[k * NUDGES : (k + 1) * NUDGES]] for k in range(3))
    products = [float(np.vdot(g * weights[n], g * weights[n])) for n, g in gradient.values.items()]
    still = not any(slight) and SLIGHTLY * math.sqrt(math.fsum(products)) > 2.0**-50 * (1 + abs(at))
    jump = max(
        *map(abs, noise), *(abs(up + down) for up, down in zip(slight[::2], slight[1::2], strict=True))
    )
    if still or jump > 2.0**-40 * (1 + abs(at)):
        size = "nothing at all" if still else f"{jump:.1e}"
        raise NotInDouble(
            f"the loss moves in steps ({size} where rounding is expected): it is not computed in float64"
        )
    return LossAt(at, max(*map(abs, noise), 8 * DOUBLE * abs(at)), max(map(abs, spread)))


def compare(
    losses: Losses, weights: Tensors, gradient: Recovered, noise: float, seed: int
) -> list[Comparison]:
    """<g, d> beside the loss's own derivative along each direction.

    `weights` are float64, of the names and shapes of the gradient at least; `noise` is a loss's, as `loss_at` found it.
    """
    drawn = list(directions(gradient.values, seed))
    steps = [STEP / (norm(d.parts) or 1.0) for d in drawn]
    answers = losses(
        moved(weights, direction, offset * step)
        for direction, step in zip(drawn, steps, strict=True)
        for offset in OFFSETS
    )
    whole, found = gradient.norm, []
    for number, (direction, step) in enumerate(zip(drawn, steps, strict=True)):
        up, down, far_up, far_down = answers[4 * number : 4 * number + 4]
        one, two = (up - down) / (2 * step), (far_up - far_down) / (4 * step)
        length = whole if direction.name == ALONG else 1.0  # a Gaussian direction weighs each number like 1
        size = norm({name: gradient.values[name] for name in direction.parts})
        off = {name: gradient.bounds[name] * np.abs(d) for name, d in direction.parts.items()}
        bound = (
            abs(one - two) / 3
            + 2 * noise / step
            + DEVIATIONS * norm(off)
            + gradient.unit * length * (RELATIVE * size + FLOOR * whole)
        )
        said = _dot(gradient.values, direction.parts)
        found.append(Comparison(direction.name, said, one + (one - two) / 3, bound))
    return found


def ratio_said(comparisons: Iterable[Comparison]) -> float | None:
    """By how much a gradient is too long, if that alone explains every one of these; None if nothing does."""
    known = [c for c in comparisons if abs(c.found) > 100 * c.bound]
    if not known:
        return None
    best = max(known, key=lambda c: abs(c.found) / c.bound)
    ratio = best.said / best.found
    fits = all(abs(c.said - ratio * c.found) <= 4 * c.bound * max(1.0, abs(ratio)) for c in known)
    return ratio + 0.0 if fits else None  # no -0
