"""The weights after an update against the declared form, the rate of the log's line and the declared decays.

They are compared entry by entry. If they do not fit, the numbers that would fit are sought: another rate, other decays,
both; if some do, these are what is wrong; if none do, the form is.
"""

from collections.abc import Mapping

import numpy as np

from gates.judge import known_updates
from gates.judge.bound_share import Share
from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.judge.known_updates import FITS
from gates.judge.recorded_update import RecordedUpdate
from reference.bounds import Bounded
from reference.low_precision import low_precision
from reference.recovered_update import Fit, Tensor, fit, fits

NEXT_TO_NOTHING = 1e-3
"""A rate or decay that is so little off is not what is wrong if another form explains the weights without it."""


def audit_weights(
    declared: DeclaredOptimizer, update: RecordedUpdate, tensors: Mapping[str, Tensor]
) -> dict[str, Share]:
    """weights, decay and rate: what is wrong is one of them, or two numbers."""
    form = declared.form
    decay = {name: declared.decay_of(name) for name in tensors}
    said = Fit(update.lr, decay)
    directions = known_updates.directions_of(form, update.t, tensors)
    with np.errstate(all="ignore"):
        ratios = fits(form, tensors, directions, said)
        ratio = max(ratios.values(), default=0.0)
        if ratio <= 1.0:
            return dict.fromkeys(("weights", "decay", "rate"), Share(ratio))
        found = _explained(declared, tensors, directions, said)
        shares = dict.fromkeys(("weights", "decay", "rate"), Share(0.0))
        if found is None or _is_another_form(declared, update, tensors, found[0], said):
            return shares | {"weights": _wrong_form(declared, update, tensors, ratios, said)}
    numbers, wrong = found
    like = known_updates.name_numbers(numbers, said, update.other_rates)
    if "rate" in wrong:
        problem = f"{update.name}: rate {numbers.rate:.9g}, logged {said.rate:.9g}"
        wanted = f"{said.rate:.9g}, the lr of its line"
        shares["rate"] = Share(ratio, problem, f"{numbers.rate:.9g}", wanted, like)
    if "decay" in wrong:
        shares["decay"] = _wrong_decay(update, ratios, numbers, said, like)
    return shares


def _wrong_decay(
    update: RecordedUpdate, ratios: Mapping[str, float], found: Fit, said: Fit, like: str
) -> Share:
    bad = sorted(n for n, r in ratios.items() if r > 1.0)
    told = {n: wd for n in bad if (wd := found.decay[n]) is not None}
    name = max(told, key=lambda n: ratios[n], default=bad[0])
    got, wanted = told.get(name, np.nan), said.decay[name]
    problem = f"{update.name}: {len(bad)} of {len(ratios)} tensors, first {name}: decay {got:.5g}, declared {wanted:g}"
    return Share(max(ratios.values()), problem, f"{got:.5g}", f"{wanted:g}, as declared", like)


def _explained(
    declared: DeclaredOptimizer,
    tensors: Mapping[str, Tensor],
    directions: Mapping[str, Bounded],
    said: Fit,
) -> tuple[Fit, tuple[str, ...]] | None:
    """Numbers with which the declared form does fit, and which of them are not as declared; None if there are none."""
    decay = {name: wd or 0.0 for name, wd in said.decay.items()}

    def tried(*free: str) -> tuple[float, Fit]:
        found = fit(
            declared.form,
            tensors,
            directions,
            rate=said.rate,
            decay=decay,
            free_rate="rate" in free,
            free_decay="decay" in free,
        )
        return max(fits(declared.form, tensors, directions, found).values()), found

    alone = {("rate",): tried("rate"), ("decay",): tried("decay")}
    free = min(alone, key=lambda key: alone[key][0])
    if alone[free][0] <= FITS:
        return alone[free][1], free
    both = tried("rate", "decay")
    return (both[1], ("rate", "decay")) if both[0] <= FITS else None


def _is_another_form(
    declared: DeclaredOptimizer, update: RecordedUpdate, tensors: Mapping[str, Tensor], found: Fit, said: Fit
) -> bool:
    """Whether numbers that differ by next to nothing hide a form that fits with those that are declared."""
    if abs(found.rate - said.rate) > NEXT_TO_NOTHING * said.rate:
        return False
    decays = ((wd or 0.0, said.decay[name] or 0.0) for name, wd in found.decay.items())
    if any(
        abs(wd - declared_wd) > NEXT_TO_NOTHING * declared_wd for wd, declared_wd in decays if declared_wd
    ):
        return False
    named = known_updates.name_form(
        declared.form, update.t, tensors, _before(update, tensors), said, refit=False
    )
    return bool(named)


def _before(
    update: RecordedUpdate, tensors: Mapping[str, Tensor]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {n: (update.moment("m", n), update.moment("v", n)) for n in tensors}


def _wrong_form(
    declared: DeclaredOptimizer,
    update: RecordedUpdate,
    tensors: Mapping[str, Tensor],
    ratios: Mapping[str, float],
    said: Fit,
) -> Share:
    """The weights do not follow the declared form with any rate and decay."""
    bad = [n for n, r in ratios.items() if r > 1.0]
    name = max(bad, key=lambda n: ratios[n])
    kept = low_precision(update.after.p[name])
    if kept:
        like = f"weights kept in {kept}"
    elif np.array_equal(tensors[name].p, tensors[name].p1):
        like = "a tensor that is not updated, or put back"
    else:
        before = _before(update, tensors)
        like = known_updates.name_form(declared.form, update.t, tensors, before, said)
    problem = (
        f"{update.name}: {len(bad)} of {len(ratios)} tensors, first {name}: "
        f"the weights do not follow from the moments"
    )
    return Share(ratios[name], problem, f"{ratios[name]:.3g} times the derived bound", "at most 1", like)
