"""The tokenizer's recipe: the merges of the law, and every text back as it was."""

from hypothesis import strategies as st

from fixtures.corpus.conjugation import rows
from fixtures.corpus.split import draw
from properties.assertions import holds
from properties.checks import checks
from reference import tokenizer

corpora = st.integers(0, 2**64 - 1).map(lambda seed: draw(rows(), seed)["train"])


def texts_of(cells):
    return [str(row[language]) for row in cells for language in ("en", "es")]


@checks("TOK-01", floor=3, cells=st.lists(corpora, min_size=1, max_size=1))
def test_merges_are_those_of_the_law(subject, cells):
    """Ties go to the smaller ids; a merged token counts from then on; a word is a unit."""
    texts = texts_of(cells[0])
    ours, law = subject.tokenizer(texts), tokenizer.train(texts)
    vocabulary = list(ours.vocabulary)
    different = [i for i, (a, b) in enumerate(zip(vocabulary, law.vocabulary, strict=False)) if a != b]
    found = f"{len(vocabulary)} tokens, expected {len(law.vocabulary)}; first difference at {different[:1]}"
    holds("TOK-01", vocabulary == list(law.vocabulary), found)
    for text in texts:
        got, expected = list(ours.encode(text)), law.encode(text)
        holds("TOK-01", got == expected, f"{text!r} is encoded as {got}, expected {expected}")


@checks("TOK-02", floor=3, cells=corpora)
def test_every_text_comes_back(subject, cells):
    """Those of the training split and of the cells that were held out: accents, capitals and spaces included."""
    ours = subject.tokenizer(texts_of(cells))
    for text in texts_of(rows()):
        back = ours.decode(ours.encode(text))
        holds("TOK-02", back == text, f"{text!r} came back as {back!r}")
