"""Where a loop goes wrong: the first quantity of the chain that is wrong while everything before it is right.

    rows, mask -> loss -> gradient -> norm -> clipped gradient -> rate -> moments -> update -> decay -> parameters
    -> evaluation -> checkpoint

Each link is asked of the probe that shows it alone. Where all probes are right, the failing example itself says which
number was wrong first.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fixtures.diagnosis_words import Place
from honestloop.guard import Call, Raised
from properties.diagnosis.comparing import PARAMETERS
from properties.diagnosis.probes import REFUSED
from properties.diagnosis.quantities import COUNT, EVALUATION, RAISED, Compared

FROZEN = ("full", "other model", "masked", "windows", "nothing", "one window", "sure")
"""Probes in which no parameter moves and nothing drops out."""
STEPS = ("step", "other step", "sharp step", "step of a window")
"""Probes of one update, neither decayed nor clipped."""
Found = Mapping[str, Compared]


def place(found: Found, failing: Compared) -> Place | None:
    """The first quantity that is wrong in the probes, or in the failing example; None if none is.

    None where a call does more than return: its numbers are not what is wrong.
    """
    if any(call.effects for call in failing.calls):
        return None
    for link in (
        rows,
        stored,
        loss,
        gradient,
        rate,
        update,
        decay,
        moments,
        clipping,
        dropout,
        schedule,
        around,
    ):
        if said := link(found):
            return said
    return in_example(failing)


def wrong(found: Found, names: tuple[str, ...], *quantities: str) -> bool:
    """Whether one of these quantities is wrong in one of these probes."""
    return any(found[name].has(*quantities) for name in names if name in found)


def moved_wrongly(found: Found, *names: str) -> bool:
    """Whether a parameter is wrong after one of these probes."""
    return wrong(found, names, *PARAMETERS)


# ---- the links


def rows(found: Found) -> Place | None:
    """Number of updates, and of predicted tokens."""
    if wrong(found, FROZEN, COUNT):
        return Place.ROWS
    if not wrong(found, FROZEN, "tokens"):
        return None
    if not wrong(found, FROZEN, "loss") and not moved_wrongly(found, *STEPS):
        return Place.LOG
    if wrong(found, ("full", "other model"), "tokens"):
        return Place.ROWS
    return Place.MASK if wrong(found, ("masked",), "tokens") else Place.ROWS


def stored(found: Found) -> Place | None:
    """Parameters that change where every rate is 0, while every first record is right."""
    first = any(
        w.update == 0 for name in FROZEN if name in found for w in found[name].wrong if w.quantity != "lr"
    )
    return Place.UPDATE if moved_wrongly(found, *FROZEN) and not first else None


def loss(found: Found) -> Place | None:
    """The loss of a window; with a right gradient it is the log that is wrong."""
    if not wrong(found, (*FROZEN, "step"), "loss", RAISED):
        return None
    if wrong(found, (*FROZEN, *STEPS), "grad_norm", RAISED) or moved_wrongly(found, *STEPS, *FROZEN):
        return Place.LOSS
    return Place.LOG


def gradient(found: Found) -> Place | None:
    """The norm of the gradient before clipping; with a right update it is the norm that is wrong."""
    if not wrong(found, (*FROZEN, *STEPS), "grad_norm"):
        return None
    return Place.GRADIENT if moved_wrongly(found, *STEPS, "first moment", "passes") else Place.NORM


def rate(found: Found) -> Place | None:
    """The rate that is logged where it is constant; with a right update it is the log that is wrong."""
    if not wrong(found, (*STEPS, "moments"), "lr"):
        return None
    return Place.RATE if moved_wrongly(found, *STEPS) else Place.LOG


def update(found: Found) -> Place | None:
    """The first update of all parameters, without decay and clipping."""
    if moved_wrongly(found, *FROZEN) and not moved_wrongly(found, *STEPS):
        return Place.PARAMETERS
    if not moved_wrongly(found, *STEPS):
        return None
    if moved_wrongly(found, "step", "other step", "sharp step") is False:
        return Place.GRADIENT  # of a window of several micro-batches
    if any(still(found[name]) for name in STEPS if name in found):
        return Place.PARAMETERS
    if turned(found):
        return Place.GRADIENT
    return Place.UPDATE if moved_wrongly(found, "sharp step") else Place.EPSILON


def decay(found: Found) -> Place | None:
    """The decay of the first update."""
    return Place.DECAY if moved_wrongly(found, "decay", "other decay") else None


def clipping(found: Found) -> Place | None:
    """A gradient larger than the limit."""
    names = ("clipped", "clipped window")
    if moved_wrongly(found, *names):
        return Place.CLIPPING
    return Place.NORM if wrong(found, names, "grad_norm") else None


def moments(found: Found) -> Place | None:
    """The second update and those after it."""
    first, second = moved_wrongly(found, "first moment"), moved_wrongly(found, "second moment")
    if first and second:
        return Place.STEP_COUNT
    if first or second:
        return Place.FIRST_MOMENT if first else Place.SECOND_MOMENT
    return Place.UPDATE if moved_wrongly(found, "moments", "other moments") else None


def dropout(found: Found) -> Place | None:
    """Loss and gradient with dropout."""
    names = ("dropout", "step with dropout")
    if wrong(found, names, "loss", RAISED):
        return Place.DROPOUT
    if wrong(found, names, "grad_norm") or moved_wrongly(found, *names):
        return Place.GRADIENT
    return None


def schedule(found: Found) -> Place | None:
    """Rates that change, and several passes."""
    names = ("schedule", "passes")
    if wrong(found, names, "lr"):
        return Place.RATE if moved_wrongly(found, *names) else Place.LOG
    if moved_wrongly(found, "schedule"):
        return Place.RATE
    if wrong(found, ("passes",), *PARAMETERS, "loss", "grad_norm"):
        return Place.UPDATE
    return None


def around(found: Found) -> Place | None:
    """What is not training: evaluation, checkpoint, what is not finite."""
    if wrong(found, ("evaluated", "evaluated between"), EVALUATION, "loss", RAISED, *PARAMETERS):
        return Place.EVALUATION
    names = ("restored", "restored with dropout")
    if wrong(found, names, *PARAMETERS, "loss", "grad_norm", "lr", EVALUATION, RAISED):
        return Place.CHECKPOINT
    return Place.REFUSAL if changed_when_refused(found) else None


def changed_when_refused(found: Found) -> bool:
    """Whether a window that is not finite has changed a parameter: raising and skipping it are both right."""
    shown = (
        [call.result for call in found[REFUSED].calls if call.method == "parameters"]
        if REFUSED in found
        else []
    )
    if len(shown) != 2 or any(isinstance(x, Raised) for x in shown):
        return False
    return any(not np.array_equal(shown[0][n], shown[1][n], equal_nan=True) for n in PARAMETERS)


# ---- one update, looked at closely


def still(one: Compared) -> bool:
    """Whether a parameter is what it was before, that should have moved."""
    return any(
        np.array_equal(got[name], before[name]) and not np.array_equal(right[name].value, before[name])
        for before, got, right in updates(one)
        for name in PARAMETERS
    )


def turned(found: Found) -> bool:
    """Whether every parameter has moved the other way, as far as it should have moved."""
    for name in STEPS:
        for before, got, right in updates(found[name]):
            for key in PARAMETERS:
                opposite = 2.0 * before[key].astype(np.float64) - right[key].value
                if not np.all(np.abs(got[key] - opposite) <= 4.0 * right[key].bound):
                    return False
    return True


def updates(one: Compared) -> Iterator[tuple[Any, Any, Any]]:
    """(parameters at the start, the subject's after the run, the oracle's) of a probe."""
    calls = one.calls
    if (
        len(calls) == 3
        and not isinstance(calls[2].result, Raised)
        and not isinstance(one.expected[2], Raised)
    ):
        yield calls[0].args[0], calls[2].result, one.expected[2]


# ---- the failing example


def in_example(one: Compared) -> Place | None:
    """What is wrong first in the failing example."""
    if not one.wrong:
        return None
    first = one.wrong[0]
    call: Call = one.calls[first.call]
    before = {other.method for other in one.calls[: first.call] if other.target == call.target}
    if before & {"load", "save"}:
        return Place.CHECKPOINT
    if first.quantity == EVALUATION:
        return Place.EVALUATION
    if "evaluate" in before:
        return Place.EVALUATION
    if first.quantity == RAISED:
        return None
    if first.quantity in (COUNT, "tokens"):
        return Place.ROWS
    if first.quantity == "lr":
        return Place.RATE
    same = {w.quantity for w in one.wrong if w.call == first.call and w.update == first.update}
    if first.quantity == "loss":
        return Place.LOSS if first.update == 0 or "grad_norm" in same else Place.LOG
    if first.quantity == "grad_norm":
        return Place.GRADIENT
    return in_parameters(one, first.call)


def in_parameters(one: Compared, number: int) -> Place | None:
    """The parameters are wrong after records that are right."""
    call, right = one.calls[number], one.expected[number]
    target = call.target
    start = next(c for c in one.calls if c.target == target and c.method is None).args[0]
    if any(
        np.array_equal(call.result[n], start[n]) and not np.array_equal(right[n].value, start[n])
        for n in PARAMETERS
    ):
        return Place.PARAMETERS
    return Place.UPDATE
