"""What each command of the command line does."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from impl import compare as comparing
from impl import config as configuration
from impl import loop, profiling
from impl.config import Config
from impl.data.corpus import load_corpus
from impl.data.tokenizer import train_tokenizer
from impl.errors import UsageError
from impl.kernels import ahead
from impl.model.translate import translate
from impl.report import drift, finish, log_line, ngram, precision_drift, scores
from impl.report.tracking import Tracker
from impl.run import directory as runs
from impl.run import tensors
from impl.run.directory import Run
from impl.run.files import atomic_write
from impl.run.log import TrainLog

COMPILES = "the kernels are compiled, once for each state of their source: about half a minute"
DEFAULT_DATA = Path(__file__).resolve().parents[1] / "fixtures" / "corpus"


def train(
    out: Path,
    data: Path | None,
    config: Path | None,
    preset: str | None,
    seed: int | None,
    steps: int | None,
    stop_after: int | None,
    resume: bool,
) -> None:
    """Make or reopen a run directory, train to the last step or to `stop_after`, and finish the run."""
    if preset is not None:
        if config is not None:
            raise UsageError("--preset and --config: one file of settings, not two")
        config = configuration.preset(preset)
    if resume:
        run = runs.reopen(out, data, config, seed=seed, steps=steps)
    else:
        run = runs.create(
            out, data or DEFAULT_DATA, configuration.load(config, seed=seed, steps=steps), sys.argv
        )
    with _kernels(run), runs.lock(run.path):
        if run.finished:
            with Tracker(run.path) as tracker:
                tracker.finish()  # in case the process that trained was killed just before it could
            print(f"{run.path}: complete already")
        else:
            _train(run, stop_after)


def _kernels(run: Run) -> contextlib.AbstractContextManager[None]:
    """On both cores, if the training has to compile its kernels."""
    if run.finished or not ahead.missing(run.config.dtype):
        return contextlib.nullcontext()
    _report(COMPILES)
    return ahead.second_process(run.config.dtype)


def _train(run: Run, stop_after: int | None) -> None:
    machines = loop.build(run)
    start = loop.restore_newest(run, machines, _report)
    for note in _notes(run.config.steps, machines.scheduler.step, stop_after):
        _report(note)
    with (
        loop.Stop(stop_after) as stop,
        TrainLog(run.path / runs.LOG, start.log if start else None) as log,
        Tracker(run.path) as tracker,
    ):
        best, spent = loop.train(run, machines, start, log, tracker, stop)
        step = machines.scheduler.step
        if not loop.finished(run, machines):
            print(f"{run.path}: stopped after step {step} of {run.config.steps}; continue with --resume")
            return
        results = finish.finish(run, machines, best, tracker, spent)
    if run.config.report.line == "full":
        print(log_line.summary(finish.summary(run, results)))
    strongest = results["strongest_baseline"]
    print(
        f"{run.path}: val perplexity {results['perplexity']['val']['ppl']:.4f}, {results['ratio']:.3f} x the strongest "
        f"n-gram ({strongest['kind']}, n = {strongest['n']}, {strongest['val']['ppl']:.4f})"
    )


def _notes(steps: int, done: int, stop_after: int | None) -> Iterator[str]:
    """What a number of steps means that trains nothing, or does not stop where it says."""
    if steps == 0:
        yield "a run of 0 steps: nothing is trained, the results are of the initial weights"
    elif stop_after is not None and stop_after > steps:
        yield f"--stop-after {stop_after} is beyond the last step, {steps}: the run is trained to its end"
    elif stop_after is not None and 0 < done < steps and stop_after <= done:
        yield f"--stop-after {stop_after}: the run has {done} steps already, no other is trained"


def evaluate(run: Path, data: Path | None) -> dict[str, Any]:
    """Scores of a finished run's model, on the run's own data or on another directory's splits."""
    finished = _finished(run)
    model = finish.load_model(finished)
    if data is not None:
        finished = finished.on(load_corpus(data))
    scores = finish.perplexities(finished, model)
    return {name: score.as_dict() if score else None for name, score in scores.items()}


def score(run: Path) -> dict[str, Any]:
    """Bits per byte, perplexity by tense and person, and the cells that a finished run's model translates exactly."""
    finished = _finished(run)
    return scores.scores(finish.load_model(finished), finished)


def compare(run: Path, best: Path, record: Path | None) -> dict[str, Any]:
    """Keep or discard a finished run, by its bits per byte; one line is added to the record of tries."""
    return comparing.compare(run, best, record)


def profile(run: Path, out: Path | None) -> None:
    """Print where the time of one step goes; `out` gets a trace for chrome://tracing."""
    print(profiling.profile(run, out))


def logits(run: Path, tokens: Path, out: Path) -> None:
    """Float64 logits of a finished run's model for the tokens in a file."""
    finished = _finished(run)
    asked = tensors.from_file(tokens)
    if asked.keys() != {"tokens", "key_mask"}:
        raise UsageError(f"{tokens}: has {sorted(asked)}, needs key_mask and tokens")
    ids, key_mask = asked["tokens"], asked["key_mask"]
    model = finished.config.model
    if ids.dtype != np.int64 or key_mask.dtype != np.bool_ or ids.ndim != 2 or ids.shape != key_mask.shape:
        raise UsageError(f"{tokens}: needs tokens int64 [N, T] and key_mask bool of the same shape")
    if ids.size == 0 or ids.shape[1] > model.context or ids.min() < 0 or ids.max() >= model.vocab_size:
        raise UsageError(
            f"{tokens}: needs 1 to {model.context} tokens a row, each from 0 to {model.vocab_size - 1}"
        )
    found = finish.load_model(finished).forward(ids, key_mask)
    atomic_write(out, tensors.to_bytes({"logits": found}))


def measure_drift(run: Path, out: Path | None) -> None:
    """Write a finished run's drift report."""
    finished = _finished(run)
    folder, model = out or run / finish.DRIFT, finish.load_model(finished)
    drift.write(folder, drift.measure(model, finished))
    precision_drift.write(folder, precision_drift.measure(model, finished))


def baseline(data: Path | None) -> list[dict[str, Any]]:
    """Every n-gram baseline on the val split of a data directory."""
    corpus = load_corpus(data or DEFAULT_DATA)
    sequences = runs.encode(corpus, train_tokenizer(corpus.splits["train"]), Config())
    return ngram.baselines(sequences["train"], sequences["val"], Config().model.vocab_size)


def sample(run: Path, verb: str, tense: str, person: str, to: str) -> None:
    """Print the model's translation of one cell, and what the corpus says if that differs."""
    finished = _finished(run)
    row = finished.corpus.find(verb, tense, person)
    if to not in ("es", "en"):
        raise UsageError(f"unknown language {to!r}; choose from es, en")
    source, expected = (row.en, row.es) if to == "es" else (row.es, row.en)
    said = translate(finish.load_model(finished), finished.tokenizer, source, to)
    print(f"{source} -> {said}" + ("" if said == expected else f"   (the corpus says: {expected})"))


def _finished(path: Path) -> Run:
    run = runs.reopen(path)
    if not run.finished:
        raise UsageError(f"{path}: not finished; continue it with train --resume")
    return run


def _report(line: str) -> None:
    print(line, file=sys.stderr)
