"""The loader: what it reads, and the one line it says about what it cannot use."""

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from fixtures.corpus.conjugation import Row as FixtureRow
from fixtures.corpus.files import COMMITTED, read_directory, to_jsonl, write_directory
from impl.data.corpus import load_corpus, read_split
from impl.errors import UsageError

SPLITS = read_directory()
FIRST = SPLITS["val"][0]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the committed data directory."""
    write_directory(tmp_path / "data", SPLITS)
    return tmp_path / "data"


def refused(directory: Path) -> str:
    """The message of the UsageError that the directory causes, which is one line."""
    with pytest.raises(UsageError) as caught:
        load_corpus(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


def test_reads_what_is_there():
    corpus = load_corpus(COMMITTED)
    for name, rows in SPLITS.items():
        assert [row.model_dump() for row in corpus.splits[name]] == rows
        data = (COMMITTED / f"{name}.jsonl").read_bytes()
        assert corpus.files[f"{name}.jsonl"] == {
            "sha256": hashlib.sha256(data).hexdigest(),
            "rows": len(rows),
        }
    assert corpus.rows == [row for split in corpus.splits.values() for row in split]
    assert read_split(COMMITTED / "val.jsonl") == corpus.splits["val"]


def test_test_split_is_optional(directory):
    (directory / "test.jsonl").unlink()
    assert load_corpus(directory).splits.keys() == {"train", "val"}


@pytest.mark.parametrize("name", ["train.jsonl", "val.jsonl"])
def test_train_and_val_are_not(directory, name):
    (directory / name).unlink()
    assert refused(directory) == f"{directory / name}: No such file or directory"


def test_a_directory_that_is_not_there(tmp_path):
    assert refused(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such data directory"


DECOMPOSED = unicodedata.normalize("NFD", "él estudió")


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("verb", "studied", "field 'id': id must be 'studied.present_perfect.2sg'"),
        ("verb", "", "field 'verb': must be words of letters"),
        ("verb", "look up", "field 'verb': must be one word"),
        ("es_verb", 3, "field 'es_verb': Input should be a valid string"),
        ("tense", "pluperfect", "field 'tense': Input should be 'present_simple', 'past_simple'"),
        ("person", "1pl", "field 'person': Input should be '1sg', '2sg' or '3sg'"),
        ("person", None, "field 'person': Input should be '1sg', '2sg' or '3sg'"),
        ("id", "study.present_perfect.3sg", "field 'id': id must be 'study.present_perfect.2sg'"),
        ("en_regular", "yes", "field 'en_regular': Input should be a valid boolean"),
        ("en_regular", 1, "field 'en_regular': Input should be a valid boolean"),
        ("es", DECOMPOSED, "field 'es': must be in Unicode NFC"),
        ("es", "él  estudió", "field 'es': must be words of letters, one space between them"),
        ("en", " he studied", "field 'en': must be words of letters, one space between them"),
        ("en", "", "field 'en': must be words of letters, one space between them"),
        ("en", "<eos>", "field 'en': must be words of letters, one space between them"),
        ("gender", "f", "field 'gender': Extra inputs are not permitted"),
    ],
)
def test_a_wrong_field_is_named(directory, field: str, value: Any, complaint: str):
    row = {**SPLITS["val"][0], field: value}
    (directory / "val.jsonl").write_text(json.dumps(row), encoding="utf-8")
    message = refused(directory)
    assert message.startswith(f"{directory / 'val.jsonl'}: line 1: row {row['id']!r}: {complaint}")


@pytest.mark.parametrize("field", list(FIRST))
def test_a_missing_field_is_named(directory, field: str):
    row = {name: value for name, value in FIRST.items() if name != field}
    (directory / "val.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert refused(directory).endswith(f"row {row.get('id')!r}: field {field!r}: Field required")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"id": "study', "not a JSON object (Unterminated string"),
        (b"", "not a JSON object (Expecting value"),
        (b"[1, 2]", "not a JSON object"),
        (b"NaN", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"id": "a", "id": "b"}', "not a JSON object (a field is there twice)"),
        ("é".encode("latin-1"), "not UTF-8 at byte 1 of the line"),
        (b"\xef\xbb\xbf{}", "not a JSON object (Unexpected UTF-8 BOM"),
    ],
)
def test_a_broken_line_is_named(directory, line: bytes, complaint: str):
    good = to_jsonl(SPLITS["val"][:2])
    (directory / "val.jsonl").write_bytes(good + line + b"\n" + to_jsonl(SPLITS["val"][2:]))
    assert refused(directory).startswith(f"{directory / 'val.jsonl'}: line 3: {complaint}")


def test_windows_line_ends_are_read(directory):
    data = (directory / "val.jsonl").read_bytes()
    (directory / "val.jsonl").write_bytes(data.replace(b"\n", b"\r\n"))
    assert len(load_corpus(directory).splits["val"]) == 48


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_an_empty_split_is_named(directory, name: str):
    (directory / f"{name}.jsonl").write_bytes(b"")
    assert refused(directory) == f"{directory / name}.jsonl: no rows"


def test_a_repeated_row_is_named(directory):
    rows = SPLITS["val"]
    (directory / "val.jsonl").write_bytes(to_jsonl([*rows, rows[4]]))
    assert refused(directory) == (
        f"{directory / 'val.jsonl'}: line 49: row {rows[4]['id']!r}: field 'id': is there twice"
    )


@pytest.mark.parametrize(("one", "other"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_row_in_two_splits_is_named(directory, one: str, other: str):
    shared = SPLITS[one][3]
    (directory / f"{other}.jsonl").write_bytes(to_jsonl([*SPLITS[other], shared]))
    assert refused(directory) == (
        f"{directory / other}.jsonl: row {shared['id']!r}: field 'id': is in {one}.jsonl too"
    )


def test_a_row_in_two_splits_under_two_names_is_named(directory):
    disguised: FixtureRow = {**SPLITS["val"][0], "verb": "learn", "id": "learn.present_perfect.2sg"}
    train = [row for row in SPLITS["train"] if row["id"] != disguised["id"]]
    (directory / "train.jsonl").write_bytes(to_jsonl([*train, disguised]))
    val = [row for row in SPLITS["val"] if row["id"] != disguised["id"]]
    (directory / "val.jsonl").write_bytes(to_jsonl(val))
    assert refused(directory) == (
        f"{directory / 'val.jsonl'}: row {FIRST['id']!r}: field 'en': is in train.jsonl too"
    )


@pytest.mark.parametrize("field", ["verb", "tense", "person"])
def test_val_asks_for_nothing_that_train_never_has(directory, field: str):
    value = FIRST[field]  # type: ignore[literal-required]
    train = [row for row in SPLITS["train"] if row[field] != value]  # type: ignore[literal-required]
    (directory / "train.jsonl").write_bytes(to_jsonl(train))
    assert f"field {field!r}: {value!r} is unknown, train.jsonl never has it" in refused(directory)


def test_find_gives_the_row_of_a_cell():
    corpus = load_corpus(COMMITTED)
    for row in corpus.rows:
        assert corpus.find(row.verb, row.tense, row.person) is row


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (("fly", "past_simple", "1sg"), "unknown verb 'fly'; choose from close, come, do,"),
        (("do", "past", "1sg"), "unknown tense 'past'; choose from present_simple, past_simple,"),
        (("do", "past_simple", "4sg"), "unknown person '4sg'; choose from 1sg, 2sg, 3sg"),
    ],
)
def test_find_says_what_there_is_to_choose_from(cell, complaint):
    with pytest.raises(UsageError, match=complaint):
        load_corpus(COMMITTED).find(*cell)


def test_find_says_which_row_is_missing(directory):
    absent = SPLITS["test"][0]
    (directory / "test.jsonl").write_bytes(to_jsonl(SPLITS["test"][1:]))
    with pytest.raises(UsageError, match=f"no split has the row '{absent['id']}'"):
        load_corpus(directory).find(absent["verb"], absent["tense"], absent["person"])
