"""A complaint about a run directory: one line with file, field, found, expected and rule."""

from dataclasses import dataclass

from honestloop.guarded_files import UnreadableError, printable
from honestloop.schemas import Deviation
from reference.rules import RULES

FORM, LOG, NUMBERS, CHECKPOINT, CADENCE, FORMAT = "DIR-01", "DIR-02", "DIR-03", "DIR-04", "DIR-05", "CKPT-06"
CHECKED = (FORM, LOG, NUMBERS, CHECKPOINT, CADENCE, FORMAT)
"""The rules that a run directory is held to."""


@dataclass(frozen=True)
class Complaint:
    """`file` is relative to the run directory, "train_log.jsonl:12" for a line; `field` may be empty."""

    file: str
    field: str
    found: str
    expected: str
    rule: str

    def __str__(self) -> str:
        rule = RULES[self.rule]
        place = printable(self.file) + (f": {printable(self.field)}" if self.field else "")
        said = f"{place}: found {printable(self.found)}, expected {printable(self.expected)}"
        return f"{said}; {rule.id}: {rule.statement} ({rule.address})"


def unreadable(file: str, error: UnreadableError, rule: str = FORM) -> Complaint:
    """The complaint about a file that is not read."""
    return Complaint(file, "", error.found, error.expected, rule)


def deviating(file: str, deviation: Deviation, rule: str = FORM) -> Complaint:
    """The complaint about a field that is not as its schema says."""
    return Complaint(file, deviation.field, deviation.found, deviation.expected, rule)
