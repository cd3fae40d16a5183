"""Translate with the trained model: greedy decoding."""

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
