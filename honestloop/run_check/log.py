"""The log of a run: its form, its steps, and the numbers in it that follow from others in it."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from honestloop.guarded_files import UnreadableError, parse_json, read_regular
from honestloop.run_check.complaint import LOG, NUMBERS, Complaint, deviating, unreadable
from honestloop.schemas import Deviation, deviations, shown

NAME = "train_log.jsonl"
LIMIT = 256 << 20
"""Bytes of a log."""
UNIT_ROUNDOFF = 2.0**-24
"""Of float32, in which a loop may have computed what it logs."""


@dataclass
class Log:
    """What the other checks need of the log: its bytes, how many whole lines it has, and which have a val_loss."""

    data: bytes = b""
    steps: int = 0
    evaluated: list[int] = field(default_factory=list)

    def starts_with(self, length: int, digest: str) -> bool:
        """Whether its first `length` bytes have this SHA-256."""
        return length <= len(self.data) and hashlib.sha256(self.data[:length]).hexdigest() == digest


def check(run: Path, schema: str, log: Log) -> Iterator[Complaint]:
    """Complaints about the log of a run, which is read into `log`."""
    try:
        log.data = read_regular(run / NAME, LIMIT, within=run)
    except UnreadableError as error:
        yield unreadable(NAME, error, LOG)
        return
    lines = log.data.split(b"\n")
    if lines.pop():
        yield Complaint(f"{NAME}:{len(lines) + 1}", "", "a line without an end", "whole lines", LOG)
    followed, seen = Followed(), set[Any]()
    log.steps = len(lines)
    for number, line in enumerate(lines, 1):
        place = f"{NAME}:{number}"
        try:
            value = parse_json(line, run / NAME)
        except UnreadableError as error:
            yield unreadable(place, error, LOG)
            followed = Followed(whole=False)
            continue
        wrong = list(_form(schema, value, seen))
        yield from (deviating(place, deviation) for deviation in wrong)
        if isinstance(value, dict) and "val_loss" in value:
            log.evaluated.append(number)
        if wrong:
            followed = Followed(whole=False)
            continue
        if value["step"] != number:
            yield Complaint(place, "step", shown(value["step"]), f"{number}, one line an update", LOG)
        for deviation in followed.check(value, number):
            yield deviating(place, deviation, NUMBERS)


def _form(schema: str, value: Any, seen: set[Any]) -> Iterator[Deviation]:
    """What a line does not keep of the schema. A line like one that kept it is not looked at again.

    Like it: the same fields, of the same types, with numbers of the same sign. No limit in the schema tells two such
    lines apart (tests/test_honestloop_check_run.py).
    """
    kind = likeness(value)
    if kind in seen:
        return
    found = list(deviations(schema, value))
    if not found:
        seen.add(kind)
    yield from found


def likeness(value: Any) -> Any:
    """What a schema of the log can tell of a value: types, signs, whether numbers are finite, emptiness of texts."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return (
            type(value),
            value > 0,
            value < 0,
            abs(value) < math.inf,
            value == int(value) if abs(value) < 1e300 else 0,
        )
    if isinstance(value, str):
        return bool(value)
    if isinstance(value, dict):
        return tuple((key, likeness(inner)) for key, inner in value.items())
    return "list", frozenset(likeness(inner) for inner in value)


class Followed:
    """Numbers that follow from those of the line, or of the lines before; `whole`: if these could all be read."""

    def __init__(self, *, whole: bool = True) -> None:
        self._tokens: int | None = 0 if whole else None
        self._best: tuple[float, int] | None = None
        self._whole = whole
        self._seconds = 0.0

    def check(self, line: dict[str, Any], number: int) -> Iterator[Deviation]:
        """What is wrong in the next line, the one of this number."""
        yield from _perplexity(line, "loss", "ppl")
        yield from _perplexity(line, "val_loss", "val_ppl")
        self._tokens = None if self._tokens is None or "tokens" not in line else self._tokens + line["tokens"]
        if self._tokens is not None and line.get("total_tokens", self._tokens) != self._tokens:
            yield Deviation(
                "total_tokens", shown(line["total_tokens"]), f"{self._tokens}, the sum of tokens so far"
            )
        if "val_loss" in line and (self._best is None or line["val_loss"] < self._best[0]):
            self._best = line["val_loss"], number
        known = self._best if self._best and self._whole else ()
        for name, best in zip(("best_val_loss", "best_step"), known, strict=False):
            if line.get(name, best) != best:
                yield Deviation(name, shown(line[name]), f"{shown(best)}, of the lowest val_loss so far")
        if line.get("seconds", self._seconds) < self._seconds:
            yield Deviation(
                "seconds", shown(line["seconds"]), f"at least {self._seconds}, as on the line before"
            )
        self._seconds = line.get("seconds", self._seconds)


def _perplexity(line: dict[str, Any], loss: str, perplexity: str) -> Iterator[Deviation]:
    """A perplexity is exp(loss), computed in float32 or better.

    In float32 the logarithm of the result is off by the rounding of the loss, u |loss|, and by that of exp and of the
    result, at most 2 units in the last place or 4 u.
    """
    if loss not in line or perplexity not in line:
        return
    said, wanted = line[perplexity], line[loss]
    if not (said > 0 and abs(math.log(said) - wanted) <= (abs(wanted) + 4.0) * UNIT_ROUNDOFF):
        exact = f"{math.exp(wanted):.9g}" if abs(wanted) < 700 else "the exponential"
        yield Deviation(perplexity, shown(said), f"{exact}, exp({loss})")
