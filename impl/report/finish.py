"""What a completed run leaves beside its log: the model, its live logits, plots, drift, samples, results, a page."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from impl.bits_per_byte import bits
from impl.data.iterator import make_batch
from impl.errors import NonFiniteError, UsageError
from impl.evaluate import evaluate
from impl.model.minigpt import MiniGPT
from impl.model.parameters import parameter_shapes
from impl.report import drift, machine, page, plots, samples, scores
from impl.report.flops import flops_per_token, mfu
from impl.report.memory import peak_memory_bytes
from impl.report.ngram import baselines, strongest
from impl.report.speed import cost
from impl.report.tracking import Tracker
from impl.run import tensors
from impl.run.checkpoint import Best
from impl.run.clock import Spent
from impl.run.directory import LOG, MANIFEST, RESULTS, Run
from impl.run.files import atomic_write, read_json, sha256_bytes, sha256_file, write_json
from impl.run.log import read_log
from impl.run.state_machines import StateMachines

EVALUATION, MACHINE = "evaluation.json", "machine.json"
MODELS, LIVE_LOGITS, DRIFT, SAMPLES = "models", "live_logits.safetensors", "drift", "samples.json"
SCHEMA = "honestloop/results/v1"
_LIVE_SEQUENCES = 32


def finish(
    run: Run, machines: StateMachines, best: Best | None, tracker: Tracker, spent: Spent
) -> dict[str, Any]:
    """Write everything that follows the last step; results.json, the last file, marks the run as complete.

    `wall_seconds` and `tokens_per_second` (null if no step was timed) are of all processes of the run, as `Spent` says;
    `peak_memory_bytes` is of this process, the last, until then.
    """
    tracker.prepare()
    model = exact_copy(run, machines.model)
    model_file = write_model(run, machines)
    write_live_logits(run, model)
    perplexity = perplexities(run, model)
    table = baselines(run.sequences["train"], run.sequences["val"], run.config.model.vocab_size)
    opponent = strongest(table)
    if plots.wanted():
        plots.loss_curve(run.path / LOG, opponent, run.path / "loss_curve.png")
    measured = drift.measure(model, run)
    drift.write(run.path / DRIFT, measured)
    results = {
        "schema": SCHEMA,
        "run_id": run.manifest.run_id,
        "steps": machines.scheduler.step,
        "best_step": best["step"] if best else None,
        "perplexity": {name: score.as_dict() if score else None for name, score in perplexity.items()},
        "baselines": table,
        "strongest_baseline": opponent,
        "ratio": perplexity["val"].perplexity / opponent["val"]["ppl"],
        "tokens_per_second": spent.tokens_per_second,
        "peak_memory_bytes": peak_memory_bytes(),
        "wall_seconds": spent.wall_seconds,
        "model_file": str(model_file.relative_to(run.path)),
        "mlflow": tracker.where(),
    }
    if plots.wanted():
        said, told = list(samples.sentences(model, run)), scores.scores(model, run)
        write_json(run.path / SAMPLES, said)
        write_json(run.path / EVALUATION, told)
        write_json(run.path / MACHINE, machine.facts())
        page.write(run, results, measured.as_dict(), said, told)
    write_json(run.path / RESULTS, results)
    tracker.finish()
    return results


def exact_copy(run: Run, model: MiniGPT) -> MiniGPT:
    """The same weights in float64: what final numbers are computed with."""
    return MiniGPT(run.config.model, "float64", model.state())


def perplexities(run: Run, model: MiniGPT) -> dict[str, Any]:
    """Score of train, val and test; test is None if the data has none. Raises NonFiniteError if one is not finite."""
    names = ("train", "val", "test")
    splits = {name: run.sequences.get(name) for name in names}
    found = {
        name: evaluate(model, split, run.config.batch_size) if split else None
        for name, split in splits.items()
    }
    for name, score in found.items():
        if score and not math.isfinite(score.perplexity):
            raise NonFiniteError(f"the perplexity of {name} is {score.perplexity}")
    return found


def write_model(run: Run, machines: StateMachines) -> Path:
    """models/minigpt-phase18-HASH.safetensors, HASH the first 12 hex digits of its SHA-256, with its two companions."""
    optimizer = {name: x for name, x in machines.optimizer.state().items() if isinstance(x, np.ndarray)}
    weights, moments = tensors.to_bytes(machines.model.state()), tensors.to_bytes(optimizer)
    digest = sha256_bytes(weights)
    folder = run.path / MODELS
    folder.mkdir(exist_ok=True)
    stem = f"minigpt-phase18-{digest[:12]}"
    atomic_write(folder / f"{stem}.optim.safetensors", moments)
    facts = {"sha256": digest, "optim_sha256": sha256_bytes(moments), "step": machines.scheduler.step}
    write_json(folder / f"{stem}.manifest.json", {**facts, "run": read_json(run.path / MANIFEST)})
    atomic_write(folder / f"{stem}.safetensors", weights)
    return folder / f"{stem}.safetensors"


def write_live_logits(run: Run, model: MiniGPT) -> None:
    """Float64 logits of the first val sequences, from the weights in memory: what a reloaded model must reproduce."""
    batch = make_batch(run.sequences["val"][:_LIVE_SEQUENCES])
    logits = model.forward(batch.input, batch.key_mask)
    live = {"tokens": batch.input, "key_mask": batch.key_mask, "logits": logits}
    atomic_write(run.path / LIVE_LOGITS, tensors.to_bytes(live))


def load_model(run: Run) -> MiniGPT:
    """The finished run's model, from its file, in float64. Raises UsageError if it is missing, torn or altered."""
    results = read_json(run.path / RESULTS)
    path = run.path / results["model_file"]
    weights = tensors.from_file(path)
    shapes = parameter_shapes(run.config.model)
    tensors.require(
        weights, {name: np.empty(shape, run.config.dtype) for name, shape in shapes.items()}, path
    )
    if not path.name.endswith(f"-{sha256_file(path)[:12]}.safetensors"):
        raise UsageError(f"{path}: its bytes are not the ones its name was made from")
    return MiniGPT(run.config.model, "float64", weights)


def summary(run: Run, results: dict[str, Any]) -> dict[str, float | int | str | None]:
    """The end of a run in a few facts, under the names that autoresearch prints."""
    config, score = run.config, results["perplexity"]["val"]
    flops, speed = flops_per_token(config.model.model_dump()), results["tokens_per_second"]
    tokens = sum(line["tokens"] for line in read_log(run.path / LOG))
    nats, count = scores.nats_and_bytes(load_model(run), run, run.sequences["val"])
    peak = config.report.peak_flops or None
    return {
        "val_bpb": bits(nats, count),
        "val_ppl": score["ppl"],
        "training_seconds": tokens / speed if speed else None,
        "total_seconds": results["wall_seconds"],
        "peak_memory_mib": results["peak_memory_bytes"] / 2**20,
        "mfu_percent": mfu(flops, round(speed), 1.0, peak, 1) if speed else None,
        "total_tokens": tokens,
        "num_steps": results["steps"],
        "num_params": run.manifest.n_parameters,
        "depth": config.model.n_layers,
        "cost_dollars": cost([results["wall_seconds"]], price=config.report.price_per_hour, devices=1),
    }
