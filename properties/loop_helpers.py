"""What the properties of the loop share: a subject's trainer whatever its conventions are, the oracle's, records."""

import copy
import inspect

import numpy as np

from fixtures.loop_strategies import LoopCase, playable
from fixtures.subjects.reference import loop_conventions
from honestloop.guard import same
from properties.assertions import holds, not_offered, same_bytes
from reference.training_bounds import TracedTrainer

FIELDS = ("loss", "lr", "grad_norm", "tokens")
"""Fields of the record that a trainer returns for each update; a subject may lack the last two, or add others."""


class Loop:
    """A trainer of the subject, in one way for all: an epoch is a list of micro-batches, whoever owns the epochs.

    A part that the subject does not offer ends the property: it is not offered.
    """

    def __init__(self, subject, make, params, settings, accumulate):
        self.parts, self.conventions = subject.trainer_parts, subject.conventions
        self.arguments = (accumulate,) if self.conventions.accumulate == "argument" else ()
        self.fitted = False
        given = {} if self.arguments else {"accumulate": accumulate}
        self.trainer = make(params, settings | given)

    @property
    def fits(self):
        """Whether the loop owns its epochs."""
        return self.conventions.epochs == "fit"

    @property
    def fields(self):
        """The fields of its records that are graded."""
        return [name for name in FIELDS if name in ("loss", "lr", *self.parts)]

    def needs(self, *parts):
        """Not offered unless the trainer has these parts."""
        missing = [part for part in parts if part not in self.parts]
        if missing:
            not_offered(f"trainer without {', '.join(missing)}")

    def train(self, micro_batches):
        """The records of one pass; a loop that owns its epochs makes only one."""
        if not self.fits:
            return self.trainer.train(micro_batches, *self.arguments)
        return self.fit(micro_batches, 1)

    def fit(self, micro_batches, epochs, **resume):
        """The records of all epochs of a loop that owns them."""
        if self.fitted:
            not_offered("epochs = fit: a trainer fits once")
        self.fitted = True
        return self.trainer.fit(micro_batches, epochs, *self.arguments, **resume)

    def needs_resume(self):
        """Not offered unless the loop owns its epochs and its `fit` takes `resume`."""
        if not self.fits:
            not_offered("epochs = train")
        try:
            takes = inspect.signature(vars(self.trainer)["_wrapped"].fit).parameters.values()
        except (AttributeError, KeyError, TypeError, ValueError):  # whatever it is, it is called
            return
        if not any(p.name == "resume" or p.kind == p.VAR_KEYWORD for p in takes):
            not_offered("fit without resume")

    def passes(self, epochs):
        """Yields (epochs, records) after each pass, or once for all where the loop owns its epochs (equal ones)."""
        if self.fits:
            yield epochs, self.fit(epochs[0], len(epochs)) if epochs else []
            return
        for epoch in epochs:
            yield [epoch], self.train(epoch)

    def run(self, epochs):
        """The records of all epochs."""
        return [record for _, records in self.passes(epochs) for record in records]

    def evaluate(self, batches):
        """Its loss on these batches."""
        self.needs("evaluate")
        return self.trainer.evaluate(batches)

    def save(self, path):
        """Write a checkpoint."""
        self.needs("save", "load")
        self.trainer.save(str(path))

    def load(self, path):
        """Go on from a checkpoint."""
        self.needs("save", "load")
        self.trainer.load(str(path))

    def parameters(self):
        """The parameters as the trainer returns them."""
        return self.trainer.parameters()

    def arrays(self):
        """The parameters by name, in the order of the protocol."""
        found = self.trainer.parameters()
        return {name: np.asarray(found[name]) for name in ("E", "W", "b")}

    def logged(self, records, *names):
        """These fields of every record, as floats, as far as the subject has them."""
        return [{name: float(record[name]) for name in names if name in self.fields} for record in records]

    def observed(self):
        """What else the loop keeps; nothing if it does not say."""
        return self.trainer.observed() if "observed" in self.parts else {}


def in_domain(subject, case, updates=None):
    """The case as this subject may be given it: settings that its schedule has rates for, and micro-batches of its
    domain; the same ones in every epoch of a loop that owns its epochs."""
    conventions, epochs, accumulate = subject.conventions, case.epochs, case.accumulate
    if conventions.domain != "any":
        epochs = [full_and_equal(epoch, accumulate) for epoch in epochs]
    if conventions.epochs == "fit":
        epochs = [epochs[0]] * len(epochs) if epochs else epochs
    changed = LoopCase(case.params, case.settings, epochs, accumulate)
    settings = playable(case.settings, updates or changed.updates, conventions.schedule)
    return LoopCase(case.params, settings, epochs, accumulate)


def full_and_equal(epoch, accumulate):
    """Whole windows of micro-batches of the shape of the first one, without masks."""
    if not epoch:
        return []
    shape = epoch[0][0].shape
    whole = -(-len(epoch) // accumulate) * accumulate
    repeated = [epoch[i % len(epoch)] for i in range(whole)]
    return [(np.resize(x, shape), np.resize(y, shape), np.ones(shape, dtype=bool)) for x, y, _ in repeated]


def any_mask(subject):
    """Not offered to a loop without masks, or with micro-batches of one size."""
    if subject.conventions.domain != "any":
        not_offered(f"domain: {subject.conventions.domain}")


def variants(subject):
    """Keywords of the oracle's loop for the subject's conventions."""
    return loop_conventions(subject.conventions) | {"scalars": subject.conventions.scalars}


def oracle_trainer(subject, params, settings, dtype):
    """The oracle's loop in the subject's conventions; what it returns carries the bounds of a loop in this dtype."""
    return TracedTrainer(params, settings, dtype=dtype, **variants(subject))


class Kept:
    """Records, or anything else that was returned, with a copy: it must not change afterwards."""

    def __init__(self, returned):
        self.returned, self.copy = returned, copy.deepcopy(returned)

    def unchanged(self, rule, what):
        """Every number is what it was."""
        holds(rule, repr(self.returned) == repr(self.copy), f"{what}: {self.copy} became {self.returned}")

    def equal(self, rule, now, what):
        """Something that was returned later is the same, every number and byte of it."""
        differs = [name for name in {**self.copy, **now} if not same(self.copy.get(name), now.get(name))]
        name = differs[0] if differs else ""
        holds(rule, not differs, f"{what}: {name} is {now.get(name)}, expected {self.copy.get(name)}")


def same_run(rule, got, wanted, what, fields=FIELDS):
    """Equal records, bit for bit."""
    holds(rule, len(got) == len(wanted), f"{what}: {len(got)} records, and {len(wanted)}")
    for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
        for name in fields:
            same_bytes(rule, np.float64(a[name]), np.float64(b[name]), f"{what}: {name} of update {k}")


def same_arrays(rule, got, wanted, what):
    """Equal arrays by name, bit for bit."""
    for name, x in wanted.items():
        same_bytes(rule, got[name], x, f"{what}: {name}")
