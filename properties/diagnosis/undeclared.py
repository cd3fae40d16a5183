"""Every legal convention that a subject may follow without having declared it, alone and in pairs."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from honestloop.conventions import LEGAL, Conventions
from properties.diagnosis.candidate import Candidate

CONCERNS = {
    "trainer": ("decay", "eps", "schedule", "clip", "norm", "scalars"),
    "adamw_step": ("decay", "eps", "first_step", "scalars"),
    "learning_rate": ("schedule",),
    "clip_by_global_norm": ("clip", "norm"),
    "rope": ("rotary",),
    "rope_backward": ("rotary",),
    "gelu": ("gelu",),
    "gelu_backward": ("gelu",),
}
"""Function of the protocol -> keys of the conventions that its oracle follows."""


def variants(function: str, declared: Conventions) -> Iterator[tuple[dict[str, str], Candidate]]:
    """(what would be declared anew, the oracle under it): single conventions first, then pairs."""
    keys = CONCERNS.get(function, ())
    for together in (1, 2):
        for some in itertools.combinations(keys, together):
            others = [[value for value in LEGAL[key] if value != getattr(declared, key)] for key in some]
            for values in itertools.product(*others):
                changed = dict(zip(some, values, strict=True))
                yield changed, Candidate.oracle(function, replace(declared, **changed))
