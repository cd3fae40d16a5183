"""A data directory: train.jsonl, val.jsonl and perhaps test.jsonl, a cell of the conjugation tables a line."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_phase18.errors import UsageError
from torch_phase18.files import sha256

TEXTS = ("id", "en", "es", "verb", "tense", "person")
Row = dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """The rows of each split, and the SHA-256 and number of rows of each file."""

    path: Path
    splits: dict[str, list[Row]]
    files: dict[str, dict[str, Any]]


def load(directory: Path) -> Corpus:
    """Read and check every split. UsageError names file, line and cell."""
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such data directory")
    splits, files = {}, {}
    for name in ("train", "val", "test"):
        path = directory / f"{name}.jsonl"
        if name == "test" and not path.exists():
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        splits[name] = _rows(path, data)
        files[path.name] = {"sha256": sha256(data), "rows": len(splits[name])}
    _refuse_overlap(directory, splits)
    return Corpus(directory, splits, files)


def find(corpus: Corpus, verb: str, tense: str, person: str) -> Row:
    """The row of one cell. UsageError if no split has it."""
    wanted = f"{verb}.{tense}.{person}"
    for row in (row for rows in corpus.splits.values() for row in rows):
        if row["id"] == wanted:
            return row
    raise UsageError(f"{corpus.path}: no split has the cell {wanted!r}")


def _rows(path: Path, data: bytes) -> list[Row]:
    rows: dict[str, Row] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            row = json.loads(line)
            whole = all(isinstance(row[name], str) and row[name] for name in TEXTS)
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{path}: line {number}: not a cell ({error!r})") from None
        if not whole or row["id"] in rows:
            raise UsageError(f"{path}: line {number}: {row['id']!r} is incomplete or there twice")
        rows[row["id"]] = row
    if not rows:
        raise UsageError(f"{path}: no rows")
    return list(rows.values())


def _refuse_overlap(directory: Path, splits: dict[str, list[Row]]) -> None:
    """No cell, and no pair of texts, stands in two splits."""
    owner: dict[Any, str] = {}
    for name, rows in splits.items():
        for row in rows:
            for key in (row["id"], (row["en"], row["es"])):
                if owner.setdefault(key, name) != name:
                    raise UsageError(f"{directory}: cell {row['id']!r} is in {owner[key]} and in {name}")
