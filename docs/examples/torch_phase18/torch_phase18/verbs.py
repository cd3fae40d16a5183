"""What each verb does. torch is imported by those that need it, once their input was looked at."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch_phase18 import config as settings
from torch_phase18 import corpus as corpora
from torch_phase18 import run as runs
from torch_phase18 import tokenizer as tokens_of
from torch_phase18.errors import UsageError
from torch_phase18.files import write_atomically
from torch_phase18.run import Run


def train(
    out: Path,
    data: Path | None = None,
    config: Path | None = None,
    seed: str | None = None,
    steps: int | None = None,
    stop_after: int | None = None,
    resume: bool = False,
) -> None:
    """Make or reopen a run directory, train, and finish the run after its last update."""
    if resume:
        run = runs.reopen(out, data, config, seed=seed, steps=steps)
    else:
        run = runs.create(out, _corpus(data), settings.load(config, seed=seed, steps=steps), sys.argv)
    if run.finished:
        return print(f"{out}: complete already")
    from torch_phase18.finish import finish
    from torch_phase18.log import TrainLog
    from torch_phase18.loop import Loop, Stop

    with runs.lock(out):
        loop, stop = Loop(run), Stop(stop_after)
        loop.restore_newest()
        loop.train(TrainLog(out / runs.LOG, loop.position), stop)
        if loop.step < run.config["steps"]:
            return print(f"{out}: stopped after step {loop.step}; continue with --resume")
        results = finish(loop)
    print(f"{out}: val perplexity {results['perplexity']['val']['ppl']:.4f}, {results['ratio']:.3f} x n-gram")


def evaluate(run: Path, data: Path | None = None) -> None:
    """Print the perplexities of a finished run, on its own data or on another directory's."""
    from torch_phase18.finish import load_weights, perplexities
    from torch_phase18.model import exact

    found = _finished(run)
    model = exact(load_weights(found))
    if data:
        corpus = corpora.load(data)
        found = replace(found, corpus=corpus, sequences=runs.encode(corpus, found.tokenizer))
    print(json.dumps(perplexities(found, model), indent=2))


def logits(run: Path, tokens: Path, out: Path) -> None:
    """Float64 logits of a finished run for the tokens of a file."""
    import torch

    from torch_phase18.checkpoint import from_bytes, to_bytes
    from torch_phase18.finish import load_weights
    from torch_phase18.model import CONTEXT, VOCAB, exact, row_by_row

    asked = from_bytes(tokens, tokens.read_bytes())
    ids, real = asked.get("tokens"), asked.get("key_mask")
    if ids is None or real is None or ids.ndim != 2 or ids.shape != real.shape or ids.dtype != torch.int64:
        raise UsageError(f"{tokens}: needs tokens int64 [N, T] and key_mask bool of the same shape")
    if ids.numel() == 0 or ids.shape[1] > CONTEXT or ids.min() < 0 or ids.max() >= VOCAB:
        raise UsageError(f"{tokens}: needs 1 to {CONTEXT} tokens a row, each below {VOCAB}")
    model = exact(load_weights(_finished(run)))
    write_atomically(out, to_bytes({"logits": row_by_row(model, ids, real)}))


def masks(run: Path, update: int, out: Path) -> None:
    """What dropout keeps in an update, by site: drawn again, as they are a function of seed and update."""
    from torch_phase18 import chance
    from torch_phase18.checkpoint import to_bytes
    from torch_phase18.data import Batches
    from torch_phase18.model import WIDTH

    found = runs.reopen(run)
    batches = Batches(found.sequences["train"], found.config["batch_size"], found.config["seed"])
    for _ in range(update - 1):
        batches.rows()
    shape = (*batches.batch(batches.rows()).tokens.shape, WIDTH)
    drawn = chance.masks(found.config["seed"], update, found.config["dropout"], shape)
    write_atomically(out, to_bytes({str(site): kept for site, kept in enumerate(drawn)}))


def rows(run: Path, updates: str, out: Path) -> None:
    """Which training sequences these updates see ("1,2,12"), as the log says it too: {"1": [row, ...]}."""
    from torch_phase18.data import Batches

    found = runs.reopen(run)
    batches = Batches(found.sequences["train"], found.config["batch_size"], found.config["seed"])
    wanted = [int(update) for update in updates.split(",")]
    seen = {str(update): batches.rows() for update in range(1, max(wanted) + 1)}
    write_atomically(out, json.dumps({str(update): seen[str(update)] for update in wanted}).encode())


def measure_drift(run: Path, out: Path | None = None) -> None:
    """Write the drift report of a finished run."""
    from torch_phase18 import drift
    from torch_phase18.finish import load_weights

    found = _finished(run)
    drift.write(out or run / "drift", load_weights(found), found)


def baseline(data: Path | None = None) -> None:
    """Print the n-gram baselines of a data directory."""
    from torch_phase18.ngram import baselines

    corpus = corpora.load(_corpus(data))
    sequences = runs.encode(corpus, tokens_of.learn(corpus.splits["train"]))
    print(json.dumps(baselines(sequences["train"], sequences["val"]), indent=2))


def sample(run: Path, verb: str, tense: str, person: str) -> None:
    """Print the model's Spanish of one cell, greedily."""
    import torch

    from torch_phase18.finish import load_weights
    from torch_phase18.model import CONTEXT, exact

    found = _finished(run)
    row = corpora.find(found.corpus, verb, tense, person)
    ids = [tokens_of.BOS, tokens_of.EN, *tokens_of.ids_of(found.tokenizer, row["en"]), tokens_of.ES]
    model, prompt = exact(load_weights(found)), len(ids)
    while len(ids) < CONTEXT:
        row_of = torch.tensor([ids])
        following = int(model(row_of, torch.ones_like(row_of, dtype=torch.bool))[0, -1].argmax())
        if following == tokens_of.EOS:
            break
        ids.append(following)
    print(f"{row['en']} -> {found.tokenizer.decode(ids[prompt:])}   (the corpus says: {row['es']})")


def _corpus(data: Path | None) -> Path:
    return data or Path(__file__).resolve().parents[4] / "fixtures" / "corpus"


def _finished(path: Path) -> Run:
    run = runs.reopen(path)
    if not run.finished:
        raise UsageError(f"{path}: not finished; continue it with train --resume")
    return run


VERBS: dict[str, Any] = {
    "train": train,
    "eval": evaluate,
    "logits": logits,
    "masks": masks,
    "rows": rows,
    "drift": measure_drift,
    "baseline": baseline,
    "sample": sample,
}
