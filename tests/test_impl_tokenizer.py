"""The tokenizer of the implementation follows the recipe of the reference exactly, and survives its file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.corpus.conjugation import rows
from fixtures.corpus.files import COMMITTED
from fixtures.corpus.split import draw
from impl.data.corpus import Row, load_corpus
from impl.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from impl.errors import UsageError
from reference import tokenizer as oracle

SEEDS = st.integers(min_value=0, max_value=2**64 - 1)
ROWS = {row["id"]: Row.model_validate(row) for row in rows()}


@pytest.fixture(scope="module")
def committed() -> Tokenizer:
    return train_tokenizer(load_corpus(COMMITTED).splits["train"])


@given(SEEDS)
def test_agrees_with_the_oracle_on_every_row(seed: int):
    train = draw(rows(), seed)["train"]
    ours, theirs = train_tokenizer([ROWS[row["id"]] for row in train]), oracle.train_on_rows(train)
    said = json.loads(ours.to_json())["model"]
    ids: dict[str, int] = said["vocab"]
    assert sorted(ids, key=ids.__getitem__) == list(theirs.vocabulary)
    assert [(ids[a], ids[b]) for a, b in said["merges"]] == list(theirs.merges)
    for row in rows():
        assert ours.encode_row(ROWS[row["id"]]) == theirs.encode_row(row)


def test_every_form_comes_back(committed):
    for row in ROWS.values():
        assert committed.decode(committed.encode(row.en)) == row.en
        assert committed.decode(committed.encode(row.es)) == row.es


def test_vocabulary_is_exactly_64(committed):
    assert committed.vocab_size == 64


def test_training_twice_gives_the_same_bytes(committed):
    again = train_tokenizer(load_corpus(COMMITTED).splits["train"])
    assert again.to_json() == committed.to_json()


def test_comes_back_from_its_file(committed, tmp_path):
    (tmp_path / "tokenizer.json").write_text(committed.to_json(), encoding="utf-8")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.to_json() == committed.to_json()
    assert all(loaded.encode_row(row) == committed.encode_row(row) for row in ROWS.values())


def test_special_tokens_have_no_text(committed):
    to_spanish, _ = committed.encode_row(ROWS["do.past_simple.1sg"])
    assert committed.decode(to_spanish) == "I did yo hice"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("soñar", "no tokens for 'ñ'"),
        ("<eos>", "no tokens for '<', '>'"),
        ("▁yo", "no tokens for '▁'"),
        (" yo", "no tokens for its spaces"),
    ],
)
def test_what_would_not_come_back_is_refused(committed, text: str, complaint: str):
    with pytest.raises(UsageError, match=complaint):
        committed.encode(text)


def test_a_row_that_cannot_be_encoded_is_named(committed):
    row = ROWS["do.past_simple.1sg"].model_copy(update={"es": "yo soñé"})
    with pytest.raises(UsageError, match=r"row 'do\.past_simple\.1sg': 'yo soñé': no tokens for 'ñ'"):
        committed.encode_row(row)
    with pytest.raises(UsageError, match=r"row 'do\.past_simple\.1sg': no tokens for 'ñ'"):
        train_tokenizer([row])


def test_rows_too_few_for_a_vocabulary_are_refused():
    with pytest.raises(UsageError, match=r"a vocabulary of \d+, not 64: too few rows"):
        train_tokenizer([ROWS["do.past_simple.1sg"]])


@pytest.mark.parametrize("contents", [None, b"", b"{}", b'{"model": 3}', b"\xff"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, contents: bytes | None):
    path = tmp_path / "tokenizer.json"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(UsageError, match=r"tokenizer\.json: ") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_recipe_is_refused(committed, tmp_path):
    said = json.loads(committed.to_json())
    said["added_tokens"] = []
    said["model"] = {**said["model"], "vocab": {"a": 0}, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(UsageError, match="ids 0 to 4 are not <pad> <bos> <eos> <es> <en>"):
        load_tokenizer(tmp_path / "tokenizer.json")
