"""What the properties of the loop share: legal settings, the oracle's loop, parameters and records as arrays."""

import numpy as np

from fixtures.loop_strategies import playable
from fixtures.subjects.reference import loop_conventions
from properties.assertions import holds, same_bytes
from reference.training_bounds import TracedTrainer

FIELDS = ("loss", "lr", "grad_norm", "tokens")
"""Fields of the record that a trainer returns for each update."""


def legal(subject, case, updates=None):
    """The settings of a case; with a longer horizon where the subject's schedule has no rate for an update."""
    return playable(case.settings, updates or case.updates, subject.conventions.schedule)


def variants(subject):
    """Keywords of the oracle's loop for the subject's conventions."""
    return loop_conventions(subject.conventions) | {"scalars": subject.conventions.scalars}


def oracle_trainer(subject, params, settings, dtype):
    """The oracle's loop in the subject's conventions; what it returns carries the bounds of a loop in this dtype."""
    return TracedTrainer(params, settings, dtype=dtype, **variants(subject))


def arrays(trainer):
    """The parameters of a trainer by name, in the order of the protocol."""
    found = trainer.parameters()
    return {name: np.asarray(found[name]) for name in ("E", "W", "b")}


def logged(records, *names):
    """These fields of every record, as floats."""
    return [{name: float(record[name]) for name in names} for record in records]


def same_run(rule, got, wanted, what):
    """Equal records, bit for bit."""
    holds(rule, len(got) == len(wanted), f"{what}: {len(got)} records, and {len(wanted)}")
    for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
        for name in FIELDS:
            same_bytes(rule, np.float64(a[name]), np.float64(b[name]), f"{what}: {name} of update {k}")


def same_arrays(rule, got, wanted, what):
    """Equal arrays by name, bit for bit."""
    for name, x in wanted.items():
        same_bytes(rule, got[name], x, f"{what}: {name}")
