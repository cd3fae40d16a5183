"""What is known of a run: the values of its files, whoever read them; any of them may be missing or of another form."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pages.numbers import is_number
from pages.thinning import Point


@dataclass(frozen=True)
class RunData:
    """The files of a run directory, as JSON has them."""

    name: str
    log: Sequence[Mapping[str, Any]] = ()
    """Lines of train_log.jsonl."""
    results: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    drift: Mapping[str, Any] = field(default_factory=dict)
    """Of drift/drift_results.json."""
    samples: Sequence[Mapping[str, Any]] = ()
    """Of samples.json: source, said, expected."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Of evaluation.json: splits, exact_match, by."""
    absent: Sequence[str] = ()
    """A line for each file that is missing or could not be read."""

    def points(self, key: str) -> list[Point]:
        """(step, value) of every line that has a number of this name; the number of the line where it has no step."""
        return [
            (line["step"] if is_number(line.get("step")) else number, line[key])
            for number, line in enumerate(self.log, 1)
            if is_number(line.get(key))
        ]

    def numeric(self) -> list[str]:
        """Names of the numbers of the log, in the order in which they first appear; `step` is the axis."""
        names = dict.fromkeys(key for line in self.log for key, value in line.items() if is_number(value))
        return [name for name in names if name != "step"]


def dig(value: Any, *keys: str) -> Any:
    """What is there under keys within keys; None if nothing is."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def entries(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; nothing if it is none."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def number_at(value: Any, *keys: str) -> float | None:
    """The number there, or None."""
    found = dig(value, *keys)
    return found if is_number(found) else None


def flat(
    value: Mapping[str, Any], without: Sequence[str] = (), prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(name.within.name, value) of what is no object; exact values (`hex`) and those in `without` are left out."""
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if key == "hex" or name in without:
            continue
        if isinstance(inner, Mapping):
            yield from flat(inner, without, f"{name}.")
        else:
            yield name, inner
