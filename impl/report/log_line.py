"""One line for people and for programs: the fields that autoresearch and picoLLM print, with every digit.

    step 00050/00600 (8.33%) | loss: 1.9 | lrm: 0.5 | dt: 4.1ms | tok/sec: 91000 | mfu: - | epoch: 2 | eta: 12.5s

`parse` gives back what `line` was given: floats are written as short as they can be read again, and "-" is a number
that was not measured.
"""

import re
from dataclasses import dataclass, fields

ABSENT = "-"


@dataclass(frozen=True)
class Status:
    """What is told of one step."""

    step: int
    steps: int
    loss: float
    lrm: float
    """The learning rate over its peak."""
    dt: float
    """Milliseconds of the step."""
    tokens_per_second: float | None
    mfu: float | None
    """Percent."""
    epoch: int
    eta: float | None
    """Seconds."""
    memory: int
    """Bytes at most resident."""
    cpu: float
    """Percent of one core that the process has used since it began."""
    val_ppl: float | None = None

    @property
    def percent(self) -> float:
        """How much of the run is done."""
        return 100.0 * self.step / self.steps if self.steps else 100.0


def shown(value: float | int | None) -> str:
    """A number with every digit, or "-"."""
    return ABSENT if value is None else repr(value)


def line(status: Status) -> str:
    """The line."""
    s = status
    parts = [
        f"step {s.step:05d}/{s.steps:05d} ({s.percent:.2f}%)",
        f"loss: {shown(s.loss)}",
        f"lrm: {shown(s.lrm)}",
        f"dt: {shown(s.dt)}ms",
        f"tok/sec: {shown(s.tokens_per_second)}",
        f"mfu: {shown(s.mfu)}",
        f"epoch: {s.epoch}",
        f"eta: {shown(s.eta)}s",
        f"memory: {s.memory}B",
        f"cpu: {shown(s.cpu)}%",
        f"val ppl: {shown(s.val_ppl)}",
    ]
    return " | ".join(parts)


NAMES = {
    "loss": "loss",
    "lrm": "lrm",
    "dt": "dt",
    "tokens_per_second": "tok/sec",
    "mfu": "mfu",
    "epoch": "epoch",
    "eta": "eta",
    "memory": "memory",
    "cpu": "cpu",
    "val_ppl": "val ppl",
}
"""Field -> its name in the line."""
WHOLE = frozenset({"epoch", "memory"})
UNITS = re.compile(r"(ms|s|B|%)$")


def parse(text: str) -> Status:
    """The status that a line tells. ValueError for anything that is not such a line."""
    head, *rest = text.strip().split(" | ")
    place = re.fullmatch(r"step ([0-9]{5,})/([0-9]{5,}) \([0-9.]+%\)", head)
    told = dict(part.split(": ", 1) for part in rest if ": " in part)
    if not place or told.keys() != set(NAMES.values()):
        raise ValueError(f"not a line of a training: {text[:80]!r}")
    found: dict[str, float | int | None] = {"step": int(place[1]), "steps": int(place[2])}
    for field in fields(Status):
        if field.name in NAMES:
            value = UNITS.sub("", told[NAMES[field.name]])
            kind = int if field.name in WHOLE else float
            found[field.name] = None if value == ABSENT else kind(value)
    return Status(**found)  # type: ignore[arg-type]


def summary(facts: dict[str, float | int | str | None]) -> str:
    """A run in a few lines, `name: value`, as autoresearch ends: after "---", names in one column."""
    width = 1 + max(map(len, facts))
    rows = [f"{name + ':':<{width}} {told(value)}" for name, value in facts.items()]
    return "\n".join(["---", *rows])


def told(value: float | int | str | None) -> str:
    """A value of the summary."""
    if value is None:
        return "not measured"
    return f"{value:.6f}" if isinstance(value, float) else str(value)
