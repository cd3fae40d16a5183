"""What the model says while it trains: some rows of the validation split, after certain updates.

A file for each of these updates, samples/step-XXXXXXXX.json, so that a resume leaves none out and none twice. Draws are
a function of the run's seed, the update and the sentence: the training's own streams are not touched.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from impl.config import EvaluationConfig
from impl.data.tokenizer import BOS, EN, EOS, ES, Tokenizer
from impl.model.decode import Decoder
from impl.model.minigpt import MiniGPT
from impl.model.sampling import sample_token
from impl.model.translate import translate_all
from impl.run.directory import Run
from impl.run.files import write_json
from impl.steering.cadence import due

FOLDER = "samples"


def take(run: Run, model: MiniGPT, step: int, last: int) -> Path | None:
    """Write the samples of this update, if it is its turn; the file, or None. It changes nothing of the model.

    `last` is the number of the last update, as far as it is known: a setting may end a run early.
    """
    if not due(step, run.config.evaluation.sample_every, last):
        return None
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:08d}.json"
    write_json(path, sentences(run, model, step))
    return path


def sentences(run: Run, model: MiniGPT, step: int) -> list[dict[str, Any]]:
    """One object a sentence: the row, the language, the source, what was said and what the data says."""
    settings, found = run.config.evaluation, []
    rows = run.corpus.splits["val"]
    rows = rows[:: max(1, len(rows) // settings.samples)][: settings.samples]
    for to in ("es", "en"):
        texts = [(row.en, row.es) if to == "es" else (row.es, row.en) for row in rows]
        sources = [source for source, _ in texts]
        if settings.temperature:
            keys = [f"{run.config.seed}/{step}/{to}/{row.id}" for row in rows]
            said = [
                sampled(model, run.tokenizer, source, to, settings, key)
                for source, key in zip(sources, keys, strict=True)
            ]
        else:
            said = translate_all(model, run.tokenizer, sources, to)
        for row, (source, expected), text in zip(rows, texts, said, strict=True):
            found.append({"row": row.id, "to": to, "source": source, "said": text, "expected": expected})
    return found


def sampled(
    model: MiniGPT, tokenizer: Tokenizer, text: str, to: str, settings: EvaluationConfig, key: str
) -> str:
    """A translation whose tokens are drawn; each draw is a function of the key and of the token's place."""
    source, target = (EN, ES) if to == "es" else (ES, EN)
    prompt = [BOS, source, *tokenizer.encode(text), target]
    options = settings.model_dump(include={"temperature", "top_k", "top_p", "min_p"})
    decoder, ids = Decoder(model), list(prompt)
    for token in prompt[:-1]:
        decoder.logits(token)
    while len(ids) < model.config.context:
        seed = int.from_bytes(hashlib.sha256(f"{key}/{len(ids)}".encode()).digest()[:8], "little")
        following = int(sample_token(np.asarray(decoder.logits(ids[-1])), 1, seed, **options)[0])
        if following == EOS:
            break
        ids.append(following)
    return tokenizer.decode(ids[len(prompt) :])
