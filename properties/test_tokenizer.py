"""The tokenizer's recipe: the merges of the law, and every text back as it was."""

from hypothesis import strategies as st

from fixtures.corpus.conjugation import rows
from properties.assertions import holds
from properties.checks import checks
from reference import tokenizer

FORMS = sorted({str(row[language]) for row in rows() for language in ("en", "es")})
"""Every text of the corpus: accents, capitals and spaces included."""
ENOUGH = 24
"""Different texts that always give enough pairs to fill the vocabulary."""
forms = st.sampled_from(FORMS)
others = st.lists(forms, max_size=20)
corpora = st.tuples(st.lists(forms, min_size=ENOUGH, max_size=40, unique=True), others).map(
    lambda x: x[0] + x[1]
)
"""Few texts, so that pairs are often equally frequent; some of them may occur more than once."""


@checks("TOK-01", texts=corpora, unseen=others)
def test_merges_are_those_of_the_law(subject, texts, unseen):
    """Ties go to the smaller ids; a merged token counts from then on; a word is a unit."""
    ours, law = subject.tokenizer(texts), tokenizer.train(texts)
    vocabulary = list(ours.vocabulary)
    different = [i for i, (a, b) in enumerate(zip(vocabulary, law.vocabulary, strict=False)) if a != b]
    found = f"{len(vocabulary)} tokens, expected {len(law.vocabulary)}; first difference at {different[:1]}"
    holds("TOK-01", vocabulary == list(law.vocabulary), found)
    for text in [*texts, *unseen]:
        got, expected = list(ours.encode(text)), law.encode(text)
        holds("TOK-01", got == expected, f"{text!r} is encoded as {got}, expected {expected}")


@checks("TOK-02", texts=corpora, unseen=others)
def test_every_text_comes_back(subject, texts, unseen):
    ours = subject.tokenizer(texts)
    for text in [*texts, *unseen]:
        back = ours.decode(ours.encode(text))
        holds("TOK-02", back == text, f"{text!r} came back as {back!r}")
