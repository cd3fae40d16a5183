"""The texts of [model] as ids, cut into windows; and what the subject's model says of every token of them.

A document is [bos] ids [eos]. A window is context + 1 of its tokens: all but the last are shown, all but the first are
predicted. Windows overlap by one token, so that every token of a document but its first is predicted once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from gates.errors import GateError
from gates.subject.asked_model import AskedModel
from gates.subject.model_table import Document, ModelTable
from reference.loss import token_nll

PAD = 0  # stands in positions outside the key mask
PIECE, MANY = 1024, 20  # tokens of a piece of training text at most, and how many there are at least


@dataclass(frozen=True)
class Texts:
    """One file of [model]: its documents, their ids and the texts that those decode to."""

    documents: list[Document]
    ids: list[list[int]]
    decoded: list[str] | None
    """None for data without texts: ids alone."""
    alone: dict[int, list[int]]
    """Number of a document -> its ids when it was encoded alone."""
    own_tokenizer: bool

    def sequences(self, table: ModelTable) -> list[list[int]]:
        """The documents with what stands before and after them."""
        before, after = ([] if x is None else [x] for x in (table.bos, table.eos))
        return [[*before, *ids, *after] for ids in self.ids]

    def windows(self, table: ModelTable) -> list[list[int]]:
        """The windows of all documents, in order; each has at least one token to predict."""
        return [
            sequence[start : start + table.context + 1]
            for sequence in self.sequences(table)
            for start in range(0, max(len(sequence) - 1, 0), table.context)
        ]

    def pieces(self, table: ModelTable) -> list[list[int]]:
        """The documents for an n-gram, of which some are held out: long ones in pieces, a twentieth of all at most."""
        whole = self.sequences(table)
        longest = min(PIECE, max(MANY, sum(map(len, whole)) // MANY))
        return [ids[start : start + longest] for ids in whole for start in range(0, len(ids), longest)]


@dataclass(frozen=True)
class TokenLosses:
    """-log p in nats of every predicted token: `nll[i]` is of the window `window[i]`."""

    nll: np.ndarray
    window: np.ndarray

    @cached_property
    def total(self) -> float:
        """The sum, in nats."""
        return float(self.nll.sum())

    @property
    def tokens(self) -> int:
        """How many tokens were predicted."""
        return len(self.nll)

    @property
    def mean(self) -> float:
        """Nats per predicted token."""
        return self.total / self.tokens


def read_texts(
    model: AskedModel, run: Path, documents: list[Document], *, encode: bool, decode: bool
) -> Texts:
    """Ids and texts back: by the subject's `encode` and `decode`, or the bytes of UTF-8. GateError for a mixture."""
    if not documents:
        raise GateError("a text of [model] holds no document")
    texts = [one for one in documents if isinstance(one, str)]
    if not texts:
        return Texts(documents, [one for one in documents if not isinstance(one, str)], None, {}, False)
    if len(texts) != len(documents):
        raise GateError("a text of [model] holds texts and ids")
    if not encode:
        return Texts(documents, [list(text.encode()) for text in texts], texts, {}, False)
    if not decode:
        raise GateError("it offers `encode`, but no `decode` to check it by")
    ids = model.encode(run, texts)
    last = len(texts) - 1
    alone = {last: model.encode(run, [texts[last]])[0]}
    return Texts(documents, ids, model.decode(run, ids), alone, True)


def predicted_bytes(model: AskedModel, run: Path, table: ModelTable, texts: Texts) -> int | None:
    """UTF-8 bytes of what is predicted: all, but for the first token of a document that has nothing before it.

    None for data without texts.
    """
    if texts.decoded is None:
        return None
    total = sum(len(text.encode()) for text in texts.decoded)
    if table.bos is not None:
        return total
    if not texts.own_tokenizer:
        return total - sum(1 for ids in texts.ids if ids)
    first = model.decode(run, [ids[:1] for ids in texts.ids])
    return total - sum(len(text.encode()) for text in first)


def batch_of(windows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens [N, T], targets [N, T], key mask [N, T]) of windows, filled up at the end."""
    longest = max(len(window) for window in windows) - 1
    tokens, targets = (np.full((len(windows), longest), PAD, np.int64) for _ in range(2))
    mask = np.zeros((len(windows), longest), bool)
    for number, window in enumerate(windows):
        length = len(window) - 1
        tokens[number, :length], targets[number, :length] = window[:-1], window[1:]
        mask[number, :length] = True
    return tokens, targets, mask


def token_losses(model: AskedModel, run: Path, windows: Sequence[Sequence[int]]) -> TokenLosses:
    """What the last checkpoint of a run says of every predicted token of the windows: softmax and logarithm are ours.

    NaN where the logits are not finite. GateError for a token that they do not know.
    """
    tokens, targets, mask = batch_of(windows)
    found, start = [], 0
    for logits in model.each_logits(run, tokens, mask):
        chosen = slice(start, start + len(logits))
        due, real = targets[chosen], mask[chosen]
        if due.max() >= logits.shape[2]:
            raise GateError(f"the text has the token {due.max()}, the logits are of {logits.shape[2]} tokens")
        with np.errstate(all="ignore"):
            found.append(token_nll(logits, due)[real])
        start = chosen.stop
    return TokenLosses(np.concatenate(found), np.nonzero(mask)[0])
