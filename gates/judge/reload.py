"""Checks of the reload gate: what is on the disk is the model that was trained."""

import hashlib
from collections.abc import Sequence

import numpy as np

from fixtures.corpus.conjugation import Row
from gates.judge import scoring
from gates.judge.first_difference import FILES
from gates.judge.probe_checks import agreement
from gates.subject import tensors
from gates.subject.logit_probes import LIVE
from gates.subject.run_directory import RunDirectory
from gates.verdict.finding import Finding, Problem, no_problems
from reference import model
from reference.data import make_batch

LIVE_ROWS = 32  # so many val sequences are in the live logits, or all there are


def logits_are_the_live_ones(
    run: RunDirectory, reloaded: np.ndarray, scorer: scoring.ReferenceScorer, val: Sequence[Row]
) -> Finding:
    """A fresh process gives (`reloaded`), for the same tokens, the fp64 logits that the training process saw, all bits.

    The tokens must be the first sequences of the val split, and the logits those of the oracle with the saved weights,
    or equality would say nothing about the model: a copy of the file is equal to it.
    """
    live = run.tensors(LIVE)
    problems = []
    expected, _, _, mask = make_batch(scorer.sequences(val)[:LIVE_ROWS])
    if not (np.array_equal(live["tokens"], expected) and np.array_equal(live["key_mask"], mask)):
        problems.append(Problem(f"{LIVE}: the tokens", "others", "the first sequences of the val split"))
    if live["logits"].dtype != np.float64 or live["logits"].shape != reloaded.shape:
        shape = f"{live['logits'].dtype} {list(live['logits'].shape)}"
        problems.append(Problem(f"{LIVE}: the logits", shape, f"float64 {list(reloaded.shape)}"))
    elif (index := tensors.first_difference(live["logits"], reloaded)) is not None:
        old, new = float(live["logits"][index]), float(reloaded[index])
        gap = tensors.ulps_apart(old, new, np.dtype(np.float64))
        place = f"reloaded logits differ from the live ones at {list(index)}, {gap} ulp apart"
        problems.append(Problem(place, repr(new), repr(old)))
    if not problems:
        problems = _not_the_oracle(live["logits"], expected, mask, run.weights)
    return no_problems("reload/logits", problems, of=f"{reloaded.size:,} logits", what="differ")


def _not_the_oracle(
    logits: np.ndarray, tokens: np.ndarray, mask: np.ndarray, weights: scoring.Weights
) -> list[Problem]:
    found = agreement(logits, tokens, mask, weights)
    if found.ratio <= 1.0:
        return []
    place = f"{LIVE}: not the oracle's logits with the saved weights, {found.where}"
    return [Problem(place, repr(found.got), repr(found.expected))]


def name_carries_the_hash(run: RunDirectory) -> Finding:
    """models/minigpt-phase18-<hash>.safetensors: the first 12 hex digits of the sha256 of its bytes."""
    said = run.model_name.removeprefix("models/minigpt-phase18-").removesuffix(".safetensors")
    real = hashlib.sha256(run.read(run.model_name)).hexdigest()[:12]
    problems = [Problem("the model file's name", said, real)] if said != real else []
    return no_problems("reload/name", problems, of=f"{run.model_name}")


def tensors_are_the_parameters(run: RunDirectory) -> Finding:
    """Exactly the named parameters, each of its shape, of one dtype, finite; so the tied head is there once."""
    shapes = model.parameter_shapes(scoring.CONFIG)
    dtype = run.json("manifest.json")["dtype"]
    problems = []
    for extra in sorted(run.weights.keys() - shapes.keys()):
        embedding = run.weights.get("E")
        tied = embedding is not None and np.array_equal(run.weights[extra], embedding)
        what = "the tied head stored a second time" if tied else "a tensor that is no parameter"
        problems.append(Problem(f"{what}, as {extra!r}", extra, "E, once"))
    for name, shape in shapes.items():
        tensor = run.weights.get(name)
        if tensor is None:
            problems.append(Problem(f"tensor {name}", "missing", f"{dtype} {list(shape)}"))
        elif tensor.shape != shape or tensor.dtype != dtype:
            problems.append(
                Problem(f"tensor {name}", f"{tensor.dtype} {list(tensor.shape)}", f"{dtype} {list(shape)}")
            )
        elif not np.isfinite(tensor).all():
            problems.append(Problem(f"tensor {name}", "NaN or infinity", "finite numbers"))
    total = sum(tensor.size for tensor in run.weights.values())
    return no_problems("reload/tensors", problems, of=f"{total:,} numbers in {len(run.weights)} tensors")


def model_is_the_last_checkpoint(run: RunDirectory) -> Finding:
    """Model file and last checkpoint hold the same weights, bit for bit; the checkpoint's manifest has its hashes."""
    folder = run.last_checkpoint()
    last = run.tensors(f"{folder}/weights.safetensors")
    problems = []
    for name, tensor in run.weights.items():
        other = last.get(name)
        if other is None or other.dtype != tensor.dtype or other.shape != tensor.shape:
            problems.append(
                Problem(f"{folder}: tensor {name}", "missing or of another shape", "as in the model file")
            )
        elif (index := tensors.first_difference(other, tensor)) is not None:
            values = [float(t[index]) for t in (tensor, other)]
            problems.append(
                Problem(f"model file: tensor {name}{list(index)}", repr(values[0]), repr(values[1]))
            )
    listed = run.json(f"{folder}/manifest.json")["files"]
    there = sorted({*FILES, *run.names(folder)} - {"manifest.json"})
    if sorted(listed) != there:
        problems.append(Problem(f"{folder}/manifest.json: files", sorted(listed), there))
    for name in there:
        said = listed.get(name, {}).get("sha256")
        real = hashlib.sha256(run.read(f"{folder}/{name}")).hexdigest()
        if said != real:
            problems.append(Problem(f"{folder}/manifest.json: sha256 of {name}", said, real))
    return no_problems("reload/checkpoint", problems, of=f"{len(last)} tensors of {folder}")
