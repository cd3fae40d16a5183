"""A language model in NumPy that answers the questions of level 3 in this process.

The logits are W tanh(E[this token] + P[the token before]).
"""

import json
from pathlib import Path

import numpy as np

from gates.subject import tensors
from gates.subject.asked_model import AskedModel
from reference.loss import cross_entropy, token_nll

VOCAB, WIDTH = 11, 6
BEFORE = VOCAB - 1  # what stands before the first token


def weights(seed=1, dtype=np.float32):
    chance = np.random.default_rng(seed)
    shapes = {"E": (VOCAB, WIDTH), "P": (VOCAB, WIDTH), "W": (WIDTH, VOCAB)}
    return {name: chance.normal(0, 0.7, shape).astype(dtype) for name, shape in shapes.items()}


def hidden(w, tokens):
    before = np.concatenate([np.full_like(tokens[:, :1], BEFORE), tokens[:, :-1]], axis=1)
    return before, np.tanh(w["E"][tokens] + w["P"][before])


def logits(w, tokens):
    return hidden(w, tokens)[1] @ w["W"]


def loss(w, tokens, targets, mask):
    return float((token_nll(logits(w, tokens), targets) * mask).sum() / mask.sum())


def gradient(w, tokens, targets, mask):
    before, h = hidden(w, tokens)
    _, error = cross_entropy(h @ w["W"], targets, mask)
    back = (error @ w["W"].T) * (1 - h * h)
    found = {name: np.zeros(x.shape) for name, x in w.items()}
    found["W"] = np.einsum("btk,btv->kv", h, error)
    np.add.at(found["E"], tokens, back)
    np.add.at(found["P"], before, back)
    return {name: x.astype(w[name].dtype) for name, x in found.items()}


def batch(seed, rows=6, length=7):
    chance = np.random.default_rng(seed)
    tokens = chance.integers(0, VOCAB - 1, (rows, length + 1))
    mask = np.arange(length) < chance.integers(2, length + 1, (rows, 1))
    return tokens[:, :-1], tokens[:, 1:], mask


def asked(home: Path, *, own=logits, w=None, **verbs) -> AskedModel:
    """An AskedModel whose questions are answered here; `verbs` are functions (values) that write the answer."""
    w = weights(dtype=np.float64) if w is None else w

    def answer_logits(values):
        said = tensors.read(Path(values["tokens"]).read_bytes())
        found = own(w, said["tokens"])
        Path(values["out"]).write_bytes(tensors.write({"logits": found}))

    def answer_loss(values):
        rows = batch(json.loads(Path(values["batch"]).read_text())["update"])
        losses = {
            path.name: loss(tensors.read(path.read_bytes()), *rows)
            for path in Path(values["weights"]).iterdir()
        }
        Path(values["out"]).write_text(json.dumps({"losses": losses}))

    known = {"logits": answer_logits, "loss": answer_loss, **verbs}
    return AskedModel(lambda verb, values: known[verb](values), home)
