"""Calling a stranger's functions: what they do besides returning is noticed, and what they did is remembered."""

from honestloop.guard.calls import OBJECTS, Call, Guard, Misbehaviour, Raised, has
from honestloop.guard.time_limit import TIME_LIMIT
from honestloop.guard.trees import arrays_in, copied, same

__all__ = [
    "OBJECTS",
    "TIME_LIMIT",
    "Call",
    "Guard",
    "Misbehaviour",
    "Raised",
    "arrays_in",
    "copied",
    "has",
    "same",
]
