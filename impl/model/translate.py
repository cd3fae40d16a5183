"""Translate with the trained model: greedy decoding."""

from collections.abc import Sequence

import numpy as np

from impl.data.tokenizer import BOS, EN, EOS, ES, Tokenizer
from impl.model.minigpt import MiniGPT


def translate(model: MiniGPT, tokenizer: Tokenizer, text: str, to: str) -> str:
    """Translate `text` into the language `to` (es or en); decoding ends at <eos> or when the context is full."""
    source, target = (EN, ES) if to == "es" else (ES, EN)
    prompt = [BOS, source, *tokenizer.encode(text), target]
    ids = list(prompt)
    while len(ids) < model.config.context:
        logits = model.forward(np.array([ids]), np.ones((1, len(ids)), np.bool_))
        following = int(np.argmax(logits[0, -1]))
        if following == EOS:
            break
        ids.append(following)
    return tokenizer.decode(ids[len(prompt) :])


def translate_all(model: MiniGPT, tokenizer: Tokenizer, texts: Sequence[str], to: str) -> list[str]:
    """`translate` of each text, all of them in one pass for each token: padding changes no logit of another row."""
    source, target = (EN, ES) if to == "es" else (ES, EN)
    rows = [[BOS, source, *tokenizer.encode(text), target] for text in texts]
    starts = [len(row) for row in rows]
    going = [row for row in rows if len(row) < model.config.context]
    while going:
        longest = max(map(len, going))
        tokens, real = np.zeros((len(going), longest), np.int64), np.zeros((len(going), longest), np.bool_)
        for number, row in enumerate(going):
            tokens[number, : len(row)], real[number, : len(row)] = row, True
        logits = model.forward(tokens, real)
        last = [int(np.argmax(logits[number, len(row) - 1])) for number, row in enumerate(going)]
        for row, following in zip(going, last, strict=True):
            row.append(following)
        going = [row for row in going if row[-1] != EOS and len(row) < model.config.context]
    return [tokenizer.decode(row[start:]) for row, start in zip(rows, starts, strict=True)]
