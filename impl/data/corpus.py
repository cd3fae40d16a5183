"""Read and check a data directory: train.jsonl, val.jsonl, and test.jsonl if it exists."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from impl.errors import UsageError

Tense = Literal["present_simple", "past_simple", "present_perfect", "future_will", "future_going_to"]
Person = Literal["1sg", "2sg", "3sg"]

REQUIRED, OPTIONAL = ("train", "val"), ("test",)


def _words(text: str) -> str:
    if not unicodedata.is_normalized("NFC", text):
        raise ValueError("must be in Unicode NFC")
    if not all(word.isalpha() for word in text.split(" ")):
        raise ValueError("must be words of letters, one space between them")
    return text


def _word(text: str) -> str:
    if " " in text:
        raise ValueError("must be one word")
    return _words(text)


Words = Annotated[str, AfterValidator(_words)]
Word = Annotated[str, AfterValidator(_word)]


class Row(BaseModel):
    """One cell of the conjugation tables: the same meaning in English and in Spanish."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    en: Words
    es: Words
    verb: Word
    es_verb: Word
    tense: Tense
    person: Person
    en_regular: bool
    es_regular: bool

    @model_validator(mode="after")
    def _id_says_what_the_row_is(self) -> Self:
        if self.id != (expected := cell_id(self.verb, self.tense, self.person)):
            raise ValueError(f"id must be {expected!r}, made of verb, tense and person")
        return self


@dataclass(frozen=True)
class Corpus:
    """The splits of a data directory, and the SHA-256 and number of rows of each file."""

    path: Path
    splits: dict[str, list[Row]]
    files: dict[str, dict[str, Any]]

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.splits.values() for row in rows]

    def find(self, verb: str, tense: str, person: str) -> Row:
        """The row of one cell, whichever split has it. Raises UsageError, which lists the possible values."""
        verbs = sorted({row.verb for row in self.rows})
        choices = {"verb": verbs, "tense": get_args(Tense), "person": get_args(Person)}
        for name, value in {"verb": verb, "tense": tense, "person": person}.items():
            if value not in choices[name]:
                raise UsageError(f"unknown {name} {value!r}; choose from {', '.join(choices[name])}")
        for row in self.rows:
            if row.id == cell_id(verb, tense, person):
                return row
        raise UsageError(f"{self.path}: no split has the row {cell_id(verb, tense, person)!r}")


def cell_id(verb: str, tense: str, person: str) -> str:
    """`work.present_simple.1sg`"""
    return f"{verb}.{tense}.{person}"


def load_corpus(directory: Path) -> Corpus:
    """Read every split of a data directory.

    Raises UsageError, one line that names file, row and field, if a row is invalid, a split is empty, two splits have
    a cell in common, or `val` has a verb, tense or person that `train` lacks.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such data directory")
    names = [*REQUIRED, *(name for name in OPTIONAL if (directory / f"{name}.jsonl").exists())]
    splits, files = {}, {}
    for name in names:
        path = directory / f"{name}.jsonl"
        data = _read(path)
        splits[name] = _parse(data, path)
        files[path.name] = {"sha256": hashlib.sha256(data).hexdigest(), "rows": len(splits[name])}
    corpus = Corpus(directory, splits, files)
    _check_disjoint(corpus)
    _check_seen_in_training(corpus)
    return corpus


def read_split(path: Path) -> list[Row]:
    """The rows of one JSON Lines file. Raises UsageError that names file, row and field."""
    return _parse(_read(path), path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _parse(data: bytes, path: Path) -> list[Row]:
    rows: dict[str, Row] = {}
    for where, line in _lines(data, path):
        row = _row(line, where)
        if row.id in rows:
            raise UsageError(f"{where}: row {row.id!r}: field 'id': is there twice")
        rows[row.id] = row
    if not rows:
        raise UsageError(f"{path}: no rows")
    return list(rows.values())


def _lines(data: bytes, path: Path) -> Iterator[tuple[str, str]]:
    """For every line: file and line number for messages, and its text. A final newline begins no further line."""
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n") if data else [], start=1):
        where = f"{path}: line {number}"
        try:
            yield where, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{where}: not UTF-8 at byte {error.start + 1} of the line") from None


def _row(line: str, where: str) -> Row:
    try:
        fields = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not a JSON object ({error})") from None
    if not isinstance(fields, dict):
        raise UsageError(f"{where}: not a JSON object")
    try:
        return Row.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "id"
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: row {fields.get('id')!r}: field {field!r}: {message}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _check_disjoint(corpus: Corpus) -> None:
    """Raise UsageError if two splits share a cell or a pair of texts."""
    owner: dict[str | tuple[str, str], str] = {}
    for name, rows in corpus.splits.items():
        for row in rows:
            for key in (row.id, (row.en, row.es)):
                if owner.setdefault(key, name) != name:
                    field = "id" if key == row.id else "en"
                    raise UsageError(
                        f"{corpus.path / name}.jsonl: row {row.id!r}: field {field!r}: is in {owner[key]}.jsonl too"
                    )


def _check_seen_in_training(corpus: Corpus) -> None:
    """Raise UsageError if `val` has a verb, tense or person that `train` has not; `test` may have any."""
    for field in ("verb", "tense", "person"):
        seen = {getattr(row, field) for row in corpus.splits["train"]}
        for row in corpus.splits["val"]:
            if (value := getattr(row, field)) not in seen:
                raise UsageError(
                    f"{corpus.path / 'val'}.jsonl: row {row.id!r}: field {field!r}: {value!r} is unknown, "
                    "train.jsonl never has it"
                )
