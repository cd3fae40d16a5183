"""The table [model] of a subject.toml: the texts that the gates of level 3 score, and the limits they hold it to.

    [model]
    train = "data/train.txt"        # what it was trained on, for the n-gram; one document a line, or .jsonl
    validation = "data/val.txt"     # what its perplexity is of
    context = 64                    # tokens that it looks back at most

A line of a `.jsonl` file is {"text": "..."}, or {"ids": [...]} for data without a tokenizer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from gates.errors import GateError
from honestloop import guarded_files

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Precision -> its unit roundoff."""
ROUNDING = 2.0**-36


@dataclass(frozen=True)
class ModelTable:
    """What a subject says about its model. Paths are relative to the folder of its file."""

    train: str
    validation: str
    context: int
    documents: str = "lines"
    """What a document is in a text file: each of its "lines", or the whole "file"."""
    bos: int | None = None
    eos: int | None = None
    """Ids that stand before and after a document, if `encode` does not put them there."""
    ratio: float = 1.0
    """The perplexity is below this times that of the strongest n-gram."""
    precision: str = "float32"
    """Of the arithmetic of its training."""
    rounding: float = ROUNDING
    """By how much, of the largest logit, logits may differ that must be equal."""

    @property
    def unit(self) -> float:
        """Unit roundoff of the arithmetic of its training."""
        return UNITS[self.precision]


Document = str | list[int]


def table_of(said: Mapping[str, Any]) -> ModelTable:
    """The table, checked. GateError, one line, for what is missing, unknown or of another type."""
    known = {field.name: field for field in fields_of(ModelTable)}
    if unknown := sorted(said.keys() - known.keys()):
        raise GateError(f"subject.toml: [model] has no key {unknown[0]!r}; there is {', '.join(known)}")
    if missing := [name for name in ("train", "validation", "context") if name not in said]:
        raise GateError(f"subject.toml: [model] does not say {missing[0]!r}")
    for name, value in said.items():
        wanted: tuple[type, ...] = (
            (str,) if name in ("train", "validation", "documents", "precision") else (int,)
        )
        wanted = (int, float) if name in ("ratio", "rounding") else wanted
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise GateError(f"subject.toml: [model] {name} is {value!r}, expected {wanted[0].__name__}")
        lowest = 1 if name == "context" else 0
        if isinstance(value, int | float) and not value >= lowest:
            raise GateError(f"subject.toml: [model] {name} is {value!r}, expected at least {lowest}")
    table = ModelTable(**said)
    for name, value, legal in (
        ("documents", table.documents, ("lines", "file")),
        ("precision", table.precision, tuple(UNITS)),
    ):
        if value not in legal:
            raise GateError(f"subject.toml: [model] {name} is {value!r}, expected one of {', '.join(legal)}")
    return table


def documents(path: Path, how: str) -> list[Document]:
    """The documents of a file of text, or of JSON lines: texts, or lists of ids. GateError for what it is not."""
    try:
        data = guarded_files.read_regular(path)
        text = data.decode("utf-8")
    except (guarded_files.UnreadableError, UnicodeDecodeError) as error:
        raise GateError(f"the text of [model] cannot be read ({path.name}: {error})") from None
    if path.suffix != ".jsonl":
        return [text] if how == "file" else [line for line in text.split("\n") if line]
    found: list[Document] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = guarded_files.parse_json(line.encode(), path)
        except guarded_files.UnreadableError as error:
            raise GateError(f"the text of [model] cannot be read (line {number}: {error})") from None
        one = row.get("text", row.get("ids")) if isinstance(row, dict) else None
        if isinstance(one, str) or (isinstance(one, list) and all(type(x) is int and x >= 0 for x in one)):
            found.append(one)
        else:
            raise GateError(f'{path.name}: line {number} is neither {{"text": ...}} nor {{"ids": [...]}}')
    return found
