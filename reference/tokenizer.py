"""The tokenizer a run must use: byte-pair encoding learned on the training texts alone.

Recipe.  A text is split into words, each with the boundary mark in front: `yo voy` is `▁yo` and `▁voy`.  The vocabulary
starts with the five special tokens and an alphabet that does not depend on the data; then the most frequent adjacent
pair of tokens is merged into a new token, again and again, until the vocabulary is full.  Of equally frequent pairs the
one with the smaller ids is merged first.  A new word is encoded by applying the merges in the order in which they were
learned, each from left to right.

Source: Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword Units", algorithm 1.
The tie-break is the one of the `tokenizers` library, with which this module agrees exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<es>", "<en>")
PAD, BOS, EOS, ES, EN = range(5)
BOUNDARY = "▁"
# The letters the 600 forms of the corpus are written with: no verb has q, x or ñ. The one capital is the pronoun I.
ALPHABET = tuple(sorted("I" + "abcdefghijklmnoprstuvwyz" + "áéíóú" + BOUNDARY))
VOCAB_SIZE = 64
CONTEXT = 32  # input positions of the model; a sequence has one token more, the last target

Pair = tuple[int, int]


@dataclass(frozen=True)
class Tokenizer:
    """`vocabulary[i]` is the text of token i; `merges[r]` is the pair of ids that was merged r-th."""

    vocabulary: tuple[str, ...]
    merges: tuple[Pair, ...]

    def encode(self, text: str) -> list[int]:
        """The token ids of a text.  ValueError for a text that they could not give back."""
        id_of = {token: i for i, token in enumerate(self.vocabulary)}
        rank = {pair: r for r, pair in enumerate(self.merges)}
        ids: list[int] = []
        for word in words(text):
            tokens = [id_of[letter] for letter in word]
            while ranked := [(rank[p], i) for i, p in enumerate(pairs(tokens)) if p in rank]:
                _, i = min(ranked)
                tokens[i : i + 2] = [id_of[self.vocabulary[tokens[i]] + self.vocabulary[tokens[i + 1]]]]
            ids += tokens
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; special tokens have none."""
        letters = "".join(self.vocabulary[i] for i in ids if i >= len(SPECIAL_TOKENS))
        return letters.replace(BOUNDARY, " ").removeprefix(" ")

    def encode_row(self, row: Mapping[str, object]) -> tuple[list[int], list[int]]:
        """The two training sequences of a cell: English to Spanish, then Spanish to English.

        ValueError names the row when a sequence is longer than the context.
        """
        en, es = self.encode(str(row["en"])), self.encode(str(row["es"]))
        to_spanish = [BOS, EN, *en, ES, *es, EOS]
        to_english = [BOS, ES, *es, EN, *en, EOS]
        if len(to_spanish) > CONTEXT + 1:
            raise ValueError(
                f"row {row['id']!r}: {len(to_spanish)} tokens, but a context of {CONTEXT} holds {CONTEXT + 1}"
            )
        return to_spanish, to_english


def words(text: str) -> list[str]:
    """`yo voy` -> [`▁yo`, `▁voy`].  ValueError for a letter outside the alphabet or a stray space."""
    split = text.split(" ")
    for word in split:
        if not word:
            raise ValueError(f"{text!r}: words are separated by single spaces")
        for letter in word:
            if letter not in ALPHABET or letter == BOUNDARY:
                raise ValueError(f"{text!r}: {letter!r} is not in the alphabet")
    return [BOUNDARY + word for word in split]


def pairs(tokens: Sequence[int]) -> list[Pair]:
    """Adjacent tokens, from left to right; those of `a a a` overlap."""
    return list(pairwise(tokens))


def merged(tokens: list[int], pair: Pair, new: int) -> list[int]:
    """`tokens` with every occurrence of `pair`, from left to right, replaced by `new`."""
    out: list[int] = []
    i = 0
    while i < len(tokens):
        found = tuple(tokens[i : i + 2]) == pair
        out.append(new if found else tokens[i])
        i += 2 if found else 1
    return out


def most_frequent(frequency: Mapping[Pair, int]) -> Pair:
    """The pair to merge next: the most frequent one, and of equals the one with the smaller ids."""
    return min(frequency, key=lambda pair: (-frequency[pair], pair))


def train(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Learn the merges from the texts of the training split.

    ValueError when the texts have too few pairs to reach `vocab_size`.
    """
    count_of = Counter(word for text in texts for word in words(text))
    vocabulary = [*SPECIAL_TOKENS, *ALPHABET]
    segmented = {word: [vocabulary.index(letter) for letter in word] for word in count_of}
    merges: list[Pair] = []
    while len(vocabulary) < vocab_size:
        frequency: Counter[Pair] = Counter()
        for word, tokens in segmented.items():
            for pair in pairs(tokens):
                frequency[pair] += count_of[word]
        if not frequency:
            raise ValueError(f"the training texts give {len(vocabulary)} of {vocab_size} tokens: too few")
        best = most_frequent(frequency)
        new = len(vocabulary)
        vocabulary.append(vocabulary[best[0]] + vocabulary[best[1]])
        segmented = {word: merged(tokens, best, new) for word, tokens in segmented.items()}
        merges.append(best)
    return Tokenizer(tuple(vocabulary), tuple(merges))


def train_on_rows(rows: Iterable[Mapping[str, object]]) -> Tokenizer:
    """Learn the merges from both texts of each training row."""
    return train(str(row[language]) for row in rows for language in ("en", "es"))
