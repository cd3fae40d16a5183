"""Text to 64 token ids: byte-pair encoding, learned from the training split alone with Hugging Face's tokenizers."""

import os
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from torch_phase18.corpus import Row
from torch_phase18.errors import UsageError

SPECIAL = ("<pad>", "<bos>", "<eos>", "<es>", "<en>")
PAD, BOS, EOS, ES, EN = range(5)
BOUNDARY = "\u2581"  # marks the start of a word
ALPHABET = ("I", *"abcdefghijklmnoprstuvwyz", *"áéíóú", BOUNDARY)
SIZE = 64

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the texts are few; threads only warn about forks


def learn(rows: list[Row]) -> tokenizers.Tokenizer:
    """Merges from both texts of these rows. UsageError if they give fewer than 64 tokens."""
    learned = tokenizers.Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BOUNDARY, prepend_scheme="always")
    learned.decoder = decoders.Metaspace(replacement=BOUNDARY, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=list(SPECIAL), initial_alphabet=list(ALPHABET), show_progress=False
    )
    learned.train_from_iterator([text for row in rows for text in (row["en"], row["es"])], trainer)
    if learned.get_vocab_size() != SIZE:
        raise UsageError(f"the training texts give {learned.get_vocab_size()} tokens, not {SIZE}")
    return learned


def read(path: Path) -> tokenizers.Tokenizer:
    """A tokenizer.json. UsageError if it is none."""
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing more specific
        raise UsageError(f"{path}: not a tokenizer ({error})") from None


def ids_of(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    """Token ids. UsageError for a text that they do not decode to."""
    ids: list[int] = tokenizer.encode(text).ids
    if tokenizer.decode(ids) != text:
        raise UsageError(f"{text!r}: has a character without a token")
    return ids


def sequences(tokenizer: tokenizers.Tokenizer, rows: list[Row]) -> list[list[int]]:
    """Two a cell, in the order of the file: English to Spanish, then Spanish to English."""
    found = []
    for row in rows:
        en, es = ids_of(tokenizer, row["en"]), ids_of(tokenizer, row["es"])
        found += [[BOS, EN, *en, ES, *es, EOS], [BOS, ES, *es, EN, *en, EOS]]
    return found
