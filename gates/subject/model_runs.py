"""What a subject of level 3 hands over: its model's answers, and updates with the loss at the weights before them."""

import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.subject import tensors
from gates.subject.asked_model import AskedModel, asked, natural_numbers
from gates.subject.model_probes import ProbeAnswers, probe
from gates.subject.model_table import ModelTable, documents, table_of
from gates.subject.recorded_directory import RecordedDirectory
from gates.subject.recorded_runs import JudgedRun, cut
from gates.subject.scored_texts import Texts, TokenLosses, predicted_bytes, read_texts, token_losses
from gates.subject.session import Session
from honestloop.description import Description
from reference.central_differences import (
    Comparison,
    LossAt,
    NotInDouble,
    Recovered,
    Tensors,
    compare,
    loss_at,
)
from reference.unclipped_gradient import unclipped

EARLY, LATE = 2, 2
"""Updates that are drawn from the run that saves each, and from between the checkpoints of the judged run."""
Line = Mapping[str, Any]


@dataclass(frozen=True)
class JudgedUpdate:
    """One update with a checkpoint on both sides, and the subject's loss of its rows around the weights before it."""

    step: int
    line: Line
    at: LossAt | None
    comparisons: list[Comparison]
    unusable: str = ""
    """Why its loss cannot be differentiated, if it cannot."""
    other_rows: list[int] | None = None
    """What the verb `rows` says, if the line of the log says something else."""


@dataclass(frozen=True)
class ModelEvidence:
    """Everything that the gate `model` looks at."""

    table: ModelTable
    log: Sequence[Line]
    results: Mapping[str, Any]
    """results.json, empty if there is none."""
    train: Texts
    validation: Texts
    predicted_bytes: int | None
    """UTF-8 bytes of what is predicted of the validation text; None for data without texts."""
    vocab_size: int
    probes: ProbeAnswers
    scores: dict[int, TokenLosses]
    """Step -> what the checkpoint says of the validation text; the last checkpoint always."""
    updates: list[JudgedUpdate]


def ask_model(session: Session, judged: JudgedRun, stepwise: RecordedDirectory | None) -> ModelEvidence:
    """Ask the model of every checkpoint of the judged run, and its loss around drawn updates.

    `stepwise` is the run that saves every update, None if there can be none.
    """
    subject, description = session.commanded("model"), session.description
    table = table_of(description.model)
    given = {
        name: documents(description.folder / getattr(table, name), table.documents)
        for name in ("train", "validation")
    }
    run = judged.run
    pairs = _drawn_pairs(judged, stepwise, session.chance("gradients"))
    with asked(subject) as model:
        verbs = {"encode": description.offers("encode"), "decode": description.offers("decode")}
        train, validation = (read_texts(model, run.path, given[name], **verbs) for name in given)
        scores = dict(_scores(model, run, validation.windows(table), subject.home))
        predicted = predicted_bytes(model, run.path, table, validation)
        sequences = validation.sequences(table)
        answers = probe(model, run.path, sequences, table.context, session.chance("probes"))
        updates = [_judged(model, description, table, pair) for pair in pairs]
    assert model.vocab_size is not None
    return ModelEvidence(
        table, run.log, run.results, train, validation, predicted, model.vocab_size, answers, scores, updates
    )


def _scores(
    model: AskedModel, run: RecordedDirectory, windows: list[list[int]], home: Path
) -> Iterator[tuple[int, TokenLosses]]:
    """Step -> score, of every checkpoint whose val_loss is logged, and of the last."""
    there = run.checkpoints()
    if not there:
        raise GateError("the run left no checkpoint whose logits could be asked for")
    for step in there:
        if step == max(there):
            yield step, token_losses(model, run.path, windows)
        elif "val_loss" in run.by_step.get(step, {}):
            copy = home / f"as-of-{step}"
            cut(run, step, copy)
            yield step, token_losses(model, copy, windows)
            shutil.rmtree(copy)


# Updates


@dataclass(frozen=True)
class _Pair:
    run: RecordedDirectory
    step: int

    @property
    def line(self) -> Line:
        return self.run.by_step[self.step]


def _drawn_pairs(judged: JudgedRun, stepwise: RecordedDirectory | None, chance: random.Random) -> list[_Pair]:
    """Updates of the run that saves each, of the judged run, and of those that were made again from its checkpoints.

    GateError if none of them has a checkpoint on both sides.
    """
    early = [] if stepwise is None else neighbours(stepwise)
    again = [_Pair(run, step) for step, run in judged.again.runs.items() if step in _both_sides(run)]
    late = again or neighbours(judged.run)
    if not early + late:
        raise GateError("no update has a checkpoint on both sides")
    drawn = [*chance.sample(early, min(EARLY, len(early))), *chance.sample(late, min(LATE, len(late)))]
    return sorted(drawn, key=lambda pair: pair.step)


def neighbours(run: RecordedDirectory) -> list[_Pair]:
    """The updates of a run that have a checkpoint on both sides and were not skipped."""
    return [_Pair(run, step) for step in _both_sides(run)]


def _both_sides(run: RecordedDirectory) -> list[int]:
    there = run.checkpoints()
    return [s for s, line in run.by_step.items() if {s - 1, s} <= there.keys() and not line.get("skipped")]


def _judged(model: AskedModel, description: Description, table: ModelTable, pair: _Pair) -> JudgedUpdate:
    """Ask for the loss around the weights before an update."""
    gradient = _gradient(description, table, pair)
    batch, other = _batch(model, description, pair)
    saved = pair.run.tensors(pair.step - 1, description.run.weights)
    base = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in saved.items()}
    copies = _copies(base, set(gradient.values))

    def losses(weights: Iterable[Tensors]) -> list[float]:
        return model.losses(pair.run.path, (_with_copies(w, copies) for w in weights), batch)

    try:
        at = loss_at(losses, base, gradient)
        found = compare(losses, base, gradient, at.noise, pair.step)
        return JudgedUpdate(pair.step, pair.line, at, found, other_rows=other)
    except NotInDouble as error:
        return JudgedUpdate(pair.step, pair.line, None, [], str(error), other)


def _gradient(description: Description, table: ModelTable, pair: _Pair) -> Recovered:
    """Of an update, before clipping."""
    before, after = pair.run.snapshot(pair.step - 1), pair.run.snapshot(pair.step)
    if not after.m or not after.m.keys() <= before.p.keys():
        raise GateError(f"{description.run.optimizer} holds no first moments of the parameters")
    said = pair.run.config.get("optimizer")
    settings = {**(said if isinstance(said, dict) else {}), **description.optimizer}
    try:
        return unclipped(
            before.m,
            after.m,
            beta1=float(settings["beta1"]),
            unit=table.unit,
            max_norm=settings.get("clip_norm"),
            norm=pair.line.get("grad_norm"),
            clip=description.conventions.clip,
            scalars=description.conventions.scalars,
        )
    except KeyError:
        raise GateError("neither [optimizer] nor the manifest's config.optimizer says beta1") from None
    except ValueError as error:
        raise GateError(f"the gradient of update {pair.step} cannot be recovered: {error}") from None


def _batch(
    model: AskedModel, description: Description, pair: _Pair
) -> tuple[dict[str, Any], list[int] | None]:
    """(What the loss is asked of, rows that the verb says and the log does not).

    The rows of the update are those of its line of the log, or else of the verb; masks are there if there is a verb.
    """
    batch: dict[str, Any] = {"update": pair.step}
    said = model.rows(pair.run.path, [pair.step])[pair.step] if description.offers("rows") else None
    logged = natural_numbers("rows of the log", pair.line["rows"]) if "rows" in pair.line else said
    if logged is not None:
        batch["rows"] = logged
    if description.offers("masks"):
        path = model.home / f"masks-{pair.step}.safetensors"
        path.write_bytes(tensors.write(model.masks(pair.run.path, pair.step)))
        batch["masks"] = str(path)
    return batch, said if said != logged else None


def _copies(weights: Tensors, moving: set[str]) -> dict[str, str]:
    """Tensor without moments -> the parameter that it is a copy of: a tied head, saved twice, moves with it."""
    return {
        name: other
        for name, x in weights.items()
        if name not in moving and x.size > 1 and np.ptp(x) > 0
        for other in moving
        if np.array_equal(x, weights[other])
    }


def _with_copies(weights: Tensors, copies: Mapping[str, str]) -> Tensors:
    return {name: weights[copies.get(name, name)] for name in weights}
