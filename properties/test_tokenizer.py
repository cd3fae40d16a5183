"""The BPE tokenizer: its merges are those of the oracle, and decoding returns every encoded text."""

from hypothesis import strategies as st

from fixtures.corpus.conjugation import rows
from properties.assertions import holds
from properties.checks import checks
from reference import tokenizer

FORMS = sorted({str(row[language]) for row in rows() for language in ("en", "es")})
"""Every text of the corpus; they contain accents, capitals and spaces."""
ENOUGH = 24
"""Any so many different texts give enough pairs to fill the vocabulary."""
forms = st.sampled_from(FORMS)
others = st.lists(forms, max_size=20)
corpora = st.tuples(st.lists(forms, min_size=ENOUGH, max_size=40, unique=True), others).map(
    lambda x: x[0] + x[1]
)
"""Few texts, so that pairs are often equally frequent; some texts may occur more than once."""


@checks("TOK-01", texts=corpora, unseen=others)
def test_merges_are_those_of_the_law(subject, texts, unseen):
    """Ties go to the smaller ids, merged tokens are merged further, and no merge crosses a word boundary."""
    trained, oracle = subject.tokenizer(texts), tokenizer.train(texts)
    vocabulary = list(trained.vocabulary)
    different = [i for i, (a, b) in enumerate(zip(vocabulary, oracle.vocabulary, strict=False)) if a != b]
    found = (
        f"{len(vocabulary)} tokens, expected {len(oracle.vocabulary)}; first difference at {different[:1]}"
    )
    holds("TOK-01", vocabulary == list(oracle.vocabulary), found)
    for text in [*texts, *unseen]:
        got, expected = list(trained.encode(text)), oracle.encode(text)
        holds("TOK-01", got == expected, f"{text!r} is encoded as {got}, expected {expected}")


@checks("TOK-02", texts=corpora, unseen=others)
def test_every_text_comes_back(subject, texts, unseen):
    trained = subject.tokenizer(texts)
    for text in [*texts, *unseen]:
        back = trained.decode(trained.encode(text))
        holds("TOK-02", back == text, f"{text!r} came back as {back!r}")
