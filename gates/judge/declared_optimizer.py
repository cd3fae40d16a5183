"""The optimizer that a run declares: in its manifest (config.optimizer), and in its description ([optimizer]).

Where both say something they must agree: `disagreements`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from gates.errors import GateError
from gates.verdict.finding import Problem
from honestloop.conventions import LEGAL, Conventions
from honestloop.description import Description
from reference import bounds, schedule
from reference.arithmetic import DOUBLE, SINGLE
from reference.recovered_update import Form

NEEDED = ("peak_lr", "beta1", "beta2", "eps", "weight_decay")
DEFAULTS: Mapping[str, Any] = {
    "min_lr": 0.0,
    "warmup_steps": 0,
    "clip_norm": None,
    "decayed": ("*",),
    "frozen": (),
    "most_skipped": 0.1,
}
OWN = "own"
"""A schedule that no table has: its rates are compared with those used, and with peak and minimum, alone."""


@dataclass(frozen=True)
class DeclaredOptimizer:
    """AdamW with its settings, the clipping before it and the schedule of its rate."""

    form: Form
    weight_decay: float
    decayed: tuple[str, ...]
    """Patterns of the names that decay."""
    frozen: tuple[str, ...]
    """Patterns of the names that no update may touch."""
    clip_norm: float | None
    clip: str
    schedule: str
    peak: float
    floor: float
    warmup: int
    total: int
    most_skipped: float
    """The largest share of updates that may be skipped."""
    said: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, description: Description, config: Mapping[str, Any], steps: int) -> "DeclaredOptimizer":
        """From a description and the `config` of a manifest, which wins. GateError for what is missing or no number."""
        muon = config.get("muon", {})
        if isinstance(muon, dict) and muon.get("enabled"):
            raise GateError("not judged: config.muon is enabled, and updates are judged as AdamW's alone")
        own = config.get("optimizer", {})
        said = {**DEFAULTS, **description.optimizer, **(own if isinstance(own, dict) else {})}
        conventions = description.conventions
        if missing := [name for name in NEEDED if name not in said]:
            raise GateError(f"manifest.json: config.optimizer has no {missing[0]}, nor has [optimizer]")
        table = str(said.get("schedule", conventions.schedule))
        if table not in (*LEGAL["schedule"], OWN):
            raise GateError(
                f"config.optimizer: schedule {table!r} is none of {', '.join(LEGAL['schedule'])}, {OWN}"
            )
        try:
            return cls(
                _form(said, conventions),
                float(said["weight_decay"]),
                tuple(said["decayed"]),
                tuple(said["frozen"]),
                None if said["clip_norm"] is None else float(said["clip_norm"]),
                conventions.clip,
                table,
                float(said["peak_lr"]),
                float(said["min_lr"]),
                int(said["warmup_steps"]),
                int(said.get("total_steps", steps)),
                float(said["most_skipped"]),
                said,
            )
        except (TypeError, ValueError) as error:
            raise GateError(f"config.optimizer: {error}") from None

    def decay_of(self, name: str) -> float:
        """Weight decay of a parameter."""
        return self.weight_decay if any(fnmatchcase(name, one) for one in self.decayed) else 0.0

    def is_frozen(self, name: str) -> bool:
        """Whether a parameter is declared to stay as it is."""
        return any(fnmatchcase(name, one) for one in self.frozen)

    def rate(self, tick: int) -> float | None:
        """The rate of the schedule's step `tick`, counted from 0; None where the table has none."""
        shape = {"warmup": self.warmup, "total": self.total, "schedule": self.schedule}
        if self.schedule == OWN or not schedule.defined(tick, **shape):  # type: ignore[arg-type]
            return None
        return schedule.learning_rate(tick, peak=self.peak, floor=self.floor, **shape)  # type: ignore[arg-type]

    @property
    def rate_bound(self) -> float:
        """How far a correct rate may be from that of the table, up to twice the horizon."""
        unit = SINGLE if self.form.scalars == "dtype" else DOUBLE
        return bounds.learning_rate(peak=self.peak, floor=self.floor, half_turns=2.0, unit=unit)


def _form(said: Mapping[str, Any], conventions: Conventions) -> Form:
    beta1, beta2, eps = (float(said[name]) for name in ("beta1", "beta2", "eps"))
    if not (0.0 <= beta1 < 1.0 and 0.0 < beta2 < 1.0 and eps >= 0.0):
        raise ValueError(
            f"beta1 {beta1}, beta2 {beta2}, eps {eps}: a beta is from 0 to 1, eps is not negative"
        )
    return Form(beta1, beta2, eps, conventions.decay, conventions.eps, conventions.scalars)


def disagreements(
    description: Description, config: Mapping[str, Any], told: Mapping[str, Any]
) -> Sequence[Problem]:
    """What the manifest of a run says otherwise than its description, or than the run was told."""
    own = config.get("optimizer", {})
    own = own if isinstance(own, dict) else {}
    found = [
        Problem(f"manifest.json: config.optimizer.{name} is not what [optimizer] says", own[name], value)
        for name, value in description.optimizer.items()
        if name in own and not _same(own[name], value)
    ]
    default = Conventions().schedule
    if "schedule" in own and description.conventions.schedule not in (default, own["schedule"]):
        declared = description.conventions.schedule
        found.append(Problem("manifest.json: config.optimizer.schedule", own["schedule"], declared))
    return found + [
        Problem(f"manifest.json: config.{name} is not what the run was told", config[name], value)
        for name, value in told.items()
        if name in config and not _same(config[name], value)
    ]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return list(a) == list(b)
    return bool(a == b)
