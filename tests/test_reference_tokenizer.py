"""The tokenizer's recipe: learned from training texts alone, lossless for every form, and the same every time.

The oracle in `reference` is checked here against the `tokenizers` library, which is an independent implementation, and
against a case worked by hand.
"""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from fixtures.corpus.conjugation import rows
from fixtures.corpus.files import read_directory
from fixtures.corpus.split import draw
from reference import tokenizer
from reference.tokenizer import ALPHABET, BOS, BOUNDARY, CONTEXT, EN, EOS, ES, SPECIAL_TOKENS, VOCAB_SIZE

SEEDS = st.integers(min_value=0, max_value=2**64 - 1)
WORDS = st.text([letter for letter in ALPHABET if letter != BOUNDARY], min_size=1, max_size=8)
# Few letters, so that pairs repeat, overlap (aaa) and tie.
REPETITIVE = st.text("aeé", min_size=1, max_size=6)


def sentences(words: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(words, min_size=1, max_size=5).map(" ".join)


def train_with_library(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BOUNDARY, prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement=BOUNDARY, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list(ALPHABET),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def vocabulary_of(backend: tokenizers.Tokenizer) -> tuple[str, ...]:
    ids = backend.get_vocab()
    return tuple(sorted(ids, key=ids.__getitem__))


@pytest.fixture(scope="module")
def committed() -> tokenizer.Tokenizer:
    return tokenizer.train_on_rows(read_directory()["train"])


def test_merges_worked_by_hand():
    """The example of Sennrich, Haddow and Birch: low 5 times, lower 2, newest 6, widest 3.

    e-s and s-t occur 9 times each: the smaller ids win.  Then es-t with 9; l-o and o-w and ▁-l tie with 7, l-o has the
    smallest ids; ▁-lo and lo-w tie with 7, and ▁ comes before every merged token; then ▁lo-w with 7.
    """
    texts = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    start = len(SPECIAL_TOKENS) + len(ALPHABET)
    learned = tokenizer.train(texts, vocab_size=start + 5)
    assert learned.vocabulary[start:] == ("es", "est", "lo", "▁lo", "▁low")
    assert [learned.vocabulary[i] for i in learned.encode("lowest")] == ["▁low", "est"]


@given(SEEDS)
def test_oracle_and_library_agree_on_the_corpus(seed: int):
    texts = [text for row in draw(rows(), seed)["train"] for text in (row["en"], row["es"])]
    ours, theirs = tokenizer.train(texts), train_with_library(texts, VOCAB_SIZE)
    assert ours.vocabulary == vocabulary_of(theirs)
    forms = [form for row in rows() for form in (row["en"], row["es"])]
    assert [ours.encode(form) for form in forms] == [encoding.ids for encoding in theirs.encode_batch(forms)]


@given(
    texts=st.lists(sentences(st.one_of(WORDS, REPETITIVE)), min_size=1, max_size=12),
    merges=st.integers(0, 8),
    probe=sentences(st.one_of(WORDS, REPETITIVE)),
)
def test_oracle_and_library_agree_on_any_text(texts: list[str], merges: int, probe: str):
    theirs = train_with_library(texts, len(SPECIAL_TOKENS) + len(ALPHABET) + merges)
    ours = tokenizer.train(texts, theirs.get_vocab_size())
    assert ours.vocabulary == vocabulary_of(theirs)
    for text in [*texts, probe]:
        assert ours.encode(text) == theirs.encode(text).ids


def test_vocabulary_is_exactly_full(committed):
    assert len(committed.vocabulary) == len(set(committed.vocabulary)) == VOCAB_SIZE
    assert committed.vocabulary[:5] == ("<pad>", "<bos>", "<eos>", "<es>", "<en>")


def test_every_form_comes_back(committed):
    for row in rows():
        for form in (row["en"], row["es"]):
            assert committed.decode(committed.encode(form)) == form


@given(sentences(WORDS))
def test_any_text_of_the_alphabet_comes_back(committed, text: str):
    assert committed.decode(committed.encode(text)) == text


def test_alphabet_is_what_the_corpus_is_written_with():
    letters = {letter for row in rows() for letter in row["en"] + row["es"]} - {" "}
    assert set(ALPHABET) == letters | {BOUNDARY}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soñar", "'ñ' is not in the alphabet"),
        ("tu\u0301", "'\u0301' is not in the alphabet"),
        ("▁yo", "'▁' is not in the alphabet"),
        ("<eos>", "'<' is not in the alphabet"),
        ("yo  voy", "separated by single spaces"),
        (" yo", "separated by single spaces"),
        ("", "separated by single spaces"),
    ],
)
def test_what_would_not_come_back_is_refused(committed, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        committed.encode(text)


@given(SEEDS)
def test_every_sequence_fits_the_context_and_names_its_directions(seed: int):
    bpe = tokenizer.train_on_rows(draw(rows(), seed)["train"])
    for row in rows():
        to_spanish, to_english = bpe.encode_row(row)
        en, es = bpe.encode(row["en"]), bpe.encode(row["es"])
        assert to_spanish == [BOS, EN, *en, ES, *es, EOS]
        assert to_english == [BOS, ES, *es, EN, *en, EOS]
        assert len(to_spanish) == len(to_english) <= CONTEXT + 1


def test_a_sequence_that_does_not_fit_is_refused_by_name(committed):
    row = {"id": "long.row", "en": "I " + "work" * 8, "es": "yo trabajo"}
    with pytest.raises(ValueError, match=r"row 'long\.row': \d+ tokens, but a context of 32 holds 33"):
        committed.encode_row(row)


def test_texts_too_few_for_a_full_vocabulary_are_refused():
    with pytest.raises(ValueError, match="38 of 64 tokens: too few"):
        tokenizer.train(["yo"])


def test_validation_texts_change_nothing():
    """Learned on the training split alone: the held-out cells give other merges, so reading them would show."""
    splits = read_directory()
    with_val = tokenizer.train_on_rows([*splits["train"], *splits["val"], *splits["test"]])
    assert tokenizer.train_on_rows(splits["train"]).merges != with_val.merges
