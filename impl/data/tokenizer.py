"""Text to token ids: byte-pair encoding with 64 tokens, learned from the training split alone."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from impl.data.corpus import Row
from impl.errors import UsageError

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<es>", "<en>")
PAD, BOS, EOS, ES, EN = range(5)
BOUNDARY = "▁"  # marks the start of a word
# Fixed before any data is read, so that verbs outside the training split can be encoded. No verb of the corpus has q, x
# or ñ.
ALPHABET = ("I", *"abcdefghijklmnoprstuvwyz", *"áéíóú", BOUNDARY)
WRITABLE = {*ALPHABET, " "} - {BOUNDARY}
VOCAB_SIZE = 64

# The texts are few and short, so threads would gain nothing; and with threads the library warns on stderr about forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Tokenizer:
    """A lossless tokenizer: it refuses a text that its tokens do not decode to."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    @property
    def vocab_size(self) -> int:
        return self._backend.get_vocab_size()

    @property
    def vocabulary(self) -> list[str]:
        """The text of every token, by id."""
        ids: dict[str, int] = self._backend.get_vocab()
        return sorted(ids, key=ids.__getitem__)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Raises UsageError for a character that has no token."""
        ids: list[int] = self._backend.encode(text).ids
        if self.decode(ids) != text:
            unknown = sorted(set(text) - WRITABLE)
            raise UsageError(f"{text!r}: no tokens for {', '.join(map(repr, unknown)) or 'its spaces'}")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; special tokens are left out."""
        return self._backend.decode(list(ids))

    def encode_row(self, row: Row) -> tuple[list[int], list[int]]:
        """The training sequences of a row: English to Spanish, then Spanish to English."""
        try:
            en, es = self.encode(row.en), self.encode(row.es)
        except UsageError as error:
            raise UsageError(f"row {row.id!r}: {error}") from None
        return [BOS, EN, *en, ES, *es, EOS], [BOS, ES, *es, EN, *en, EOS]

    def to_json(self) -> str:
        """The contents of tokenizer.json, which `load_tokenizer` and the tokenizers library read."""
        return self._backend.to_str(pretty=True) + "\n"


def train_tokenizer(rows: Iterable[Row]) -> Tokenizer:
    """Learn merges from both texts of the training rows.

    Raises UsageError for a character outside the alphabet, or if the texts give fewer than 64 tokens.
    """
    rows = list(rows)
    for row in rows:
        if unknown := sorted(set(row.en + row.es) - WRITABLE):
            raise UsageError(f"row {row.id!r}: no tokens for {', '.join(map(repr, unknown))}")
    return train_on_texts([text for row in rows for text in (row.en, row.es)])


def train_on_texts(texts: Sequence[str]) -> Tokenizer:
    """Learn merges from texts of the alphabet. Raises UsageError if they give fewer than 64 tokens."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BOUNDARY, prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement=BOUNDARY, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list(ALPHABET),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() != VOCAB_SIZE:
        raise UsageError(
            f"the training texts give a vocabulary of {backend.get_vocab_size()}, not {VOCAB_SIZE}: too few rows"
        )
    return Tokenizer(backend)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read tokenizer.json. Raises UsageError, which names the file, if `train_tokenizer` cannot have made it."""
    try:
        backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except Exception as error:  # the library raises nothing more specific
        raise UsageError(f"{path}: not a tokenizer ({error})") from None
    if [backend.id_to_token(i) for i in range(len(SPECIAL_TOKENS))] != list(SPECIAL_TOKENS):
        raise UsageError(f"{path}: ids 0 to {len(SPECIAL_TOKENS) - 1} are not {' '.join(SPECIAL_TOKENS)}")
    return Tokenizer(backend)
