"""Short runs of a subject's loop, each with settings that leave one quantity to be seen: they tell mistakes apart.

The example that fails is shrunk, and may fit several mistakes. So the loop is run again on a few fixed cases. With all
rates 0 no parameter moves, and the record shows rows, loss, gradient norm and rate of every update by itself; a single
update with a large eps shows the gradient, with a small one its sign; without decay, with it; without clipping, with
it; with beta2 = 0 only the first moment is kept, with beta1 = 0 only the second.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.loop_strategies import micro_batch, parameters, playable
from fixtures.temporary_folder import temporary_folder
from honestloop.guard import Call, Guard, Misbehaviour
from honestloop.protocol import Subject
from properties.diagnosis.argument_form import in_argument_form, takes_argument

TIME_LIMIT = 2.0
"""Seconds that a call of the subject may take in a probe."""
PLAIN = {
    "seed": 3,
    "dropout": 0.0,
    "peak": 0.1,
    "floor": 0.1,
    "warmup": 0,
    "total": 60,
    "beta1": 0.5,
    "beta2": 0.9,
    "eps": 0.3,
    "weight_decay": 0.0,
    "max_norm": 50.0,
}
"""Nothing drops out, nothing decays, nothing is clipped, the rate stays what it is, and the gradient's size shows."""
FROZEN = {"peak": 0.0, "floor": 0.0}
FULL = ((2, 3, "full"), (1, 4, "full"), (3, 2, "full"))
HOLES = ((2, 4, "holes"), (3, 3, "holes"), (1, 2, "one"))
UNEQUAL = ((1, 3, "full"), (3, 4, "holes"), (2, 2, "one"), (2, 2, "empty"), (2, 3, "full"))


@dataclass(frozen=True)
class Probe:
    """A short run: what is asked of the subject."""

    settings: dict[str, Any]
    sizes: tuple[tuple[int, int, str], ...] = FULL
    accumulate: int = 1
    model: tuple[int, int, float] = (5, 3, 0.6)
    """Vocabulary, width, scale of the parameters."""
    script: Callable[..., None] | None = None
    """What is called; default: one pass over the micro-batches, and the parameters after it."""
    seed: int = 0

    def sizes_for(self, subject: Subject) -> Sequence[tuple[int, int, str]]:
        """The micro-batches that it is given: of a loop that takes only whole windows of equal ones, such."""
        if subject.conventions.domain == "any":
            return self.sizes
        windows = max(len(self.sizes) // self.accumulate, 1)
        return [FULL[0]] * (windows * self.accumulate)

    def run(self, subject: Subject, dtype: Any) -> list[Call]:
        """The calls of the subject's trainer, as far as they went."""
        guard = Guard(TIME_LIMIT)
        make = guard.function("trainer", subject.raw("trainer"))
        if subject.conventions.accumulate == "setting":
            make = takes_argument(make, self.accumulate)
        rng = np.random.default_rng(self.seed)
        vocab, width, scale = self.model
        params = {name: x.astype(dtype) for name, x in parameters(rng, vocab, width, scale).items()}
        batches = [micro_batch(rng, vocab, *size) for size in self.sizes_for(subject)]
        settings = playable(PLAIN | self.settings, 3 * len(batches) + 3, subject.conventions.schedule)
        with temporary_folder() as folder, suppress(Misbehaviour):
            (self.script or passed_once)(make, params, settings, batches, self.accumulate, Path(folder))
        return in_argument_form(guard.calls)


def passed_once(make: Any, params: Any, settings: Any, batches: Any, accumulate: int, folder: Path) -> None:
    """One pass, and the parameters."""
    trainer = make(params, settings)
    trainer.train(batches, accumulate)
    trainer.parameters()


def one_by_one(make: Any, params: Any, settings: Any, batches: Any, accumulate: int, folder: Path) -> None:
    """A pass for every micro-batch, and the parameters after each."""
    trainer = make(params, settings)
    for batch in batches:
        trainer.train([batch], accumulate)
        trainer.parameters()


def twice(make: Any, params: Any, settings: Any, batches: Any, accumulate: int, folder: Path) -> None:
    """Two passes over the same micro-batches, the second in reverse, and the parameters after each."""
    trainer = make(params, settings)
    trainer.train(batches, accumulate)
    trainer.parameters()
    trainer.train(batches[::-1], accumulate)
    trainer.parameters()


def evaluated(make: Any, params: Any, settings: Any, batches: Any, accumulate: int, folder: Path) -> None:
    """Evaluations of several batches and of one, before any training."""
    trainer = make(params, settings)
    trainer.evaluate(batches)
    for batch in batches:
        trainer.evaluate([batch])
    trainer.parameters()


def evaluated_between(
    make: Any, params: Any, settings: Any, batches: Any, accumulate: int, folder: Path
) -> None:
    """An evaluation between two passes."""
    trainer = make(params, settings)
    trainer.train(batches, accumulate)
    trainer.evaluate(batches)
    trainer.train(batches, accumulate)
    trainer.parameters()


def restored(make: Any, params: Any, settings: Any, batches: Any, accumulate: int, folder: Path) -> None:
    """A pass, a checkpoint, loaded by a trainer of other parameters that goes on."""
    trainer = make(params, settings)
    trainer.train(batches, accumulate)
    trainer.save(str(folder / "checkpoint"))
    other = make({name: x + x.dtype.type(1.0) for name, x in params.items()}, settings)
    other.load(str(folder / "checkpoint"))
    other.parameters()
    other.train(batches, accumulate)
    other.parameters()
    trainer.train(batches, accumulate)
    trainer.parameters()


def not_finite(make: Any, params: Any, settings: Any, batches: Any, accumulate: int, folder: Path) -> None:
    """A pass in which a token of the last micro-batch has an embedding of NaN; the parameters after it."""
    spoiled = dict(params, E=params["E"].copy())
    spoiled["E"][-1] = np.nan
    last = len(params["b"]) - 1
    good = [(np.minimum(tokens, last - 1), targets, mask) for tokens, targets, mask in batches]
    trainer = make(spoiled, settings)
    trainer.train(good, 1)
    trainer.parameters()
    tokens, targets, mask = good[-1]
    with suppress(Misbehaviour):
        trainer.train([(np.full_like(tokens, last), targets, np.ones_like(mask))], 1)
    trainer.parameters()


REFUSED = "not finite"
"""The probe of a window that is not finite."""
PROBES: dict[str, Probe] = {
    "full": Probe(FROZEN),
    "other model": Probe(FROZEN, ((1, 2, "full"), (2, 5, "full")), model=(7, 2, 1.0), seed=1),
    "masked": Probe(FROZEN, HOLES),
    "windows": Probe(FROZEN, UNEQUAL, accumulate=2, script=twice),
    "nothing": Probe(FROZEN, ((2, 2, "empty"), (1, 3, "full"))),
    "one window": Probe(FROZEN, UNEQUAL, accumulate=4, model=(4, 2, 1.0), seed=2),
    "sure": Probe(FROZEN, FULL, model=(5, 3, 12.0), seed=3),
    "step": Probe({}, FULL[:1], model=(5, 3, 1.0)),
    "other step": Probe({"eps": 0.05, "peak": 0.04, "floor": 0.04}, HOLES[:1], model=(7, 2, 1.0), seed=4),
    "sharp step": Probe({"eps": 1e-8}, FULL[:1], model=(5, 3, 1.0)),
    "step of a window": Probe({}, UNEQUAL, accumulate=9, seed=5),
    "decay": Probe({"weight_decay": 0.5}, FULL[:1]),
    "other decay": Probe({"weight_decay": 0.2, "peak": 0.05, "floor": 0.05}, HOLES[:1], seed=6),
    "clipped": Probe({"max_norm": 0.05, "eps": 0.02}, FULL[:1], model=(5, 3, 1.0)),
    "clipped window": Probe({"max_norm": 0.02, "eps": 0.01}, UNEQUAL, accumulate=3, seed=7, script=twice),
    "first moment": Probe({"beta2": 0.0}, FULL, script=one_by_one),
    "second moment": Probe({"beta1": 0.0}, FULL, script=one_by_one),
    "moments": Probe({"eps": 1e-3}, (*FULL, *FULL), script=one_by_one),
    "other moments": Probe(
        {"beta1": 0.9, "beta2": 0.95, "eps": 0.05}, (*FULL, *HOLES), script=one_by_one, seed=8
    ),
    "schedule": Probe(
        {"warmup": 3, "total": 8, "floor": 0.02, "weight_decay": 0.3}, (*FULL, *HOLES, *FULL, *FULL)
    ),
    "passes": Probe(
        {"warmup": 1, "total": 9, "floor": 0.02, "weight_decay": 0.3, "max_norm": 0.1, "eps": 0.01},
        UNEQUAL,
        accumulate=2,
        script=twice,
        seed=9,
    ),
    "dropout": Probe(FROZEN | {"dropout": 0.5}, (*FULL, *HOLES), accumulate=2, seed=10),
    "step with dropout": Probe({"dropout": 0.25}, FULL, accumulate=2, seed=11),
    "evaluated": Probe({"dropout": 0.5}, UNEQUAL, script=evaluated, seed=12),
    "evaluated between": Probe({"dropout": 0.5}, FULL, script=evaluated_between, seed=13),
    "restored": Probe({"floor": 0.01, "total": 9}, FULL, script=restored, seed=14),
    "restored with dropout": Probe(
        {"floor": 0.01, "total": 9, "dropout": 0.5}, FULL, script=restored, seed=15
    ),
    REFUSED: Probe({}, FULL, script=not_finite, seed=16),
}
"""Name -> probe, in the order of the quantities that they show."""
MASKED = ("dropout", "step with dropout", "evaluated between", "restored with dropout")
"""Those whose numbers depend on the masks of dropout."""
NEEDS = {
    **dict.fromkeys(("evaluated", "evaluated between"), frozenset({"evaluate"})),
    **dict.fromkeys(("restored", "restored with dropout"), frozenset({"save", "load"})),
}
"""Those of parts that a trainer may lack."""


def runs(subject: Subject) -> Iterator[tuple[str, list[Call]]]:
    """(name, calls) of every probe whose numbers an oracle has; none if the subject offers no trainer."""
    dtype = np.float64 if np.float64 in subject.conventions.float_types else np.float32
    for name, probe in PROBES.items():
        if subject.conventions.generator == "own" and name in MASKED:
            continue
        if not NEEDS.get(name, frozenset()) <= subject.trainer_parts:
            continue
        yield name, probe.run(subject, dtype)
