"""What follows the last update: the model's file, its live logits, plots, drift, results."""

import math
from typing import Any

import torch

from torch_phase18 import drift, plots
from torch_phase18.checkpoint import from_bytes, to_bytes
from torch_phase18.data import batch_of
from torch_phase18.errors import NonFiniteError, UsageError
from torch_phase18.files import read_json, sha256, to_json, write_atomically
from torch_phase18.log import lines
from torch_phase18.loop import Loop, perplexity, score
from torch_phase18.model import MiniGPT, exact, row_by_row
from torch_phase18.ngram import baselines
from torch_phase18.run import LOG, RESULTS, Run
from torch_phase18.tracking import Tracker

LIVE = "live_logits.safetensors"
LIVE_ROWS = 32


def finish(loop: Loop) -> dict[str, Any]:
    """Write it all; results.json is the last file of a run."""
    run, weights = loop.run, dict(loop.model.named_parameters())
    model, data = exact(weights), to_bytes(weights)
    (run.path / "models").mkdir(exist_ok=True)
    name = f"models/minigpt-phase18-{sha256(data)[:12]}.safetensors"
    write_atomically(run.path / name, data)
    batch = batch_of(run.sequences["val"][:LIVE_ROWS])
    live = row_by_row(model, batch.tokens, batch.real)
    tensors = {"tokens": batch.tokens, "key_mask": batch.real, "logits": live}
    write_atomically(run.path / LIVE, to_bytes(tensors))
    scores = perplexities(run, model)
    table = baselines(run.sequences["train"], run.sequences["val"])
    strongest = min(table, key=lambda entry: entry["val"]["ppl"])
    if plots.wanted():
        plots.losses(lines(run.path / LOG), run.path / "loss_curve.png")
    drift.write(run.path / "drift", weights, run)
    tracker = Tracker(run)
    results = {
        "schema": "honestloop/results/v1",
        "run_id": run.manifest["run_id"],
        "steps": loop.step,
        "best_step": loop.best["step"] if loop.best else None,
        "perplexity": scores,
        "baselines": table,
        "strongest_baseline": strongest,
        "ratio": scores["val"]["ppl"] / strongest["val"]["ppl"],
        "model_file": name,
        "mlflow": tracker.said,
    }
    write_atomically(run.path / RESULTS, to_json(results))
    tracker.copy()
    return results


def perplexities(run: Run, model: MiniGPT) -> dict[str, Any]:
    """Of each split, with the exact floats beside them. NonFiniteError if one is not finite."""
    found: dict[str, Any] = dict.fromkeys(("train", "val", "test"))
    for name, sequences in run.sequences.items():
        nll, tokens = score(model, sequences, run.config["batch_size"])
        ppl = perplexity(nll, tokens)
        if not math.isfinite(ppl):
            raise NonFiniteError(f"the perplexity of {name} is {ppl}")
        exactly = {"ppl": ppl.hex(), "nll_sum": nll.hex()}
        found[name] = {"ppl": ppl, "nll_sum": nll, "tokens": tokens, "hex": exactly}
    return found


def load_weights(run: Run) -> dict[str, torch.Tensor]:
    """Of a finished run. UsageError if the file is not the one that its name was made from."""
    path = run.path / read_json(run.path / RESULTS)["model_file"]
    data = path.read_bytes()
    if not path.name.endswith(f"-{sha256(data)[:12]}.safetensors"):
        raise UsageError(f"{path}: its bytes are not the ones its name was made from")
    return from_bytes(path, data)
