"""What a subject of level 3 hands over: its model's answers, and updates with the loss at the weights before them."""

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.subject import tensors
from gates.subject.asked_model import AskedModel, asked, natural_numbers
from gates.subject.commanded import CommandedSubject
from gates.subject.model_probes import ProbeAnswers, probe
from gates.subject.model_table import ModelTable, documents, table_of
from gates.subject.scored_texts import Texts, TokenLosses, predicted_bytes, read_texts, token_losses
from gates.subject.session import Session
from honestloop import guarded_files
from honestloop.description import Description
from reference.central_differences import Comparison, LossAt, NotInDouble, Tensors, compare, loss_at
from reference.unclipped_gradient import unclipped

SHORT = 6
"""Updates of the short run that saves each."""
EARLY, LATE = 2, 2
"""Updates that are drawn from it, and from between the checkpoints of the judged run."""
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
    log: list[Line]
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


def ask_model(session: Session) -> ModelEvidence:
    """Train, ask the model of every checkpoint, and its loss around drawn updates."""
    subject, description = session.commanded("model"), session.description
    table = table_of(description.model)
    texts = {
        name: documents(description.folder / getattr(table, name), table.documents)
        for name in ("train", "validation")
    }
    run = subject.train()
    pairs = list(_drawn_pairs(subject, run, session.chance("gradients")))
    with asked(subject) as model:
        verbs = {"encode": description.offers("encode"), "decode": description.offers("decode")}
        train, validation = (read_texts(model, run, texts[name], **verbs) for name in ("train", "validation"))
        scores = dict(_scores(model, subject, run, validation.windows(table)))
        predicted = predicted_bytes(model, run, table, validation)
        assert model.vocab_size is not None
        answers = probe(model, run, validation.sequences(table), table.context, session.chance("probes"))
        updates = [_judged(model, description, table, pair) for pair in pairs]
    results = guarded_files.read_json(run / "results.json") if (run / "results.json").exists() else {}
    return ModelEvidence(
        table,
        log_of(run, description),
        results,
        train,
        validation,
        predicted,
        model.vocab_size,
        answers,
        scores,
        updates,
    )


# Files of a run


def log_of(run: Path, description: Description) -> list[Line]:
    """The lines of the log, parsed. GateError if one is not a JSON object with a whole step."""
    path = run / description.run.log
    try:
        data = guarded_files.read_regular(path)
        lines = [guarded_files.parse_json(line, path) for line in data.splitlines()]
    except guarded_files.UnreadableError as error:
        raise GateError(f"the log cannot be read ({error})") from None
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            raise GateError(f"{description.run.log}: line {number} is not an object with a step")
    return lines


def checkpoints(run: Path, description: Description) -> dict[int, Path]:
    """Step -> folder, of the checkpoints of the steps that the log has, and of step 0."""
    steps = sorted({0, *(line["step"] for line in log_of(run, description))})
    found = {step: run / description.run.checkpoints.format(step=step) for step in steps}
    return {step: folder for step, folder in found.items() if folder.is_dir()}


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """A safetensors file that the subject left."""
    try:
        return tensors.read(guarded_files.read_regular(path))
    except (guarded_files.UnreadableError, tensors.TensorFileError) as error:
        raise GateError(f"{path.parent.name}/{path.name} cannot be read ({error})") from None


def cut_back(run: Path, step: int, description: Description, to: Path) -> Path:
    """A copy of a run as it was after so many updates: no later checkpoint, no later line of the log."""
    later = {str(folder) for at, folder in checkpoints(run, description).items() if at > step}

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if str(Path(folder) / name) in later or name == "results.json"]

    try:
        shutil.copytree(run, to, symlinks=True, ignore=ignored)
    except (OSError, shutil.Error) as error:
        raise GateError(f"the run cannot be copied ({guarded_files.one_line(error)[:200]})") from None
    kept = [
        line for line in (run / description.run.log).read_bytes().splitlines(keepends=True) if line.strip()
    ]
    kept = [line for line in kept if json.loads(line)["step"] <= step]
    (to / description.run.log).write_bytes(b"".join(kept))
    return to


# Scores of the checkpoints


def _scores(
    model: AskedModel, subject: CommandedSubject, run: Path, windows: list[list[int]]
) -> Iterator[tuple[int, TokenLosses]]:
    """Of every checkpoint whose val_loss is logged, and of the last."""
    description = subject.description
    there = checkpoints(run, description)
    if not there:
        raise GateError("the run has no checkpoint at a step of its log")
    logged = {line["step"] for line in log_of(run, description) if "val_loss" in line}
    for step in there:
        if step == max(there):
            yield step, token_losses(model, run, windows)
        elif step in logged:
            copy = cut_back(run, step, description, subject.home / f"as-of-{step}")
            yield step, token_losses(model, copy, windows)
            shutil.rmtree(copy)


# Updates


@dataclass(frozen=True)
class _Pair:
    run: Path
    step: int
    before: Path
    after: Path
    line: Line


def _drawn_pairs(subject: CommandedSubject, run: Path, chance: random.Random) -> Iterator[_Pair]:
    """Updates of a short run that saves each, and of the judged run: each resumed from a drawn checkpoint."""
    description = subject.description
    if "checkpoint_every" not in description.placeholders("train"):
        pairs = list(_neighbours(run, description))
        if not pairs:
            raise GateError("no update has a checkpoint on both sides: `train` has no {checkpoint_every}")
        yield from chance.sample(pairs, min(EARLY + LATE, len(pairs)))
        return
    short = subject.train("every-update", checkpoint_every=1, stop_after=min(SHORT, description.run.steps))
    pairs = list(_neighbours(short, description))
    if not pairs:
        raise GateError("a run with a checkpoint at every update left no two neighbouring checkpoints")
    yield from sorted(chance.sample(pairs, min(EARLY, len(pairs))), key=lambda pair: pair.step)
    if not description.offers("resume"):
        return
    from_here = [step for step in checkpoints(run, description) if 0 < step < description.run.steps]
    for step in sorted(chance.sample(from_here, min(LATE, len(from_here)))):
        name = f"resumed-at-{step}"
        cut_back(run, step, description, subject.home / name)
        subject.train(name, resume=True, checkpoint_every=1, stop_after=step + 1)
        yield from (p for p in _neighbours(subject.home / name, description) if p.step == step + 1)


def _neighbours(run: Path, description: Description) -> Iterator[_Pair]:
    there = checkpoints(run, description)
    for line in log_of(run, description):
        step = line["step"]
        if step in there and step - 1 in there and not line.get("skipped"):
            yield _Pair(run, step, there[step - 1], there[step], line)


def _judged(model: AskedModel, description: Description, table: ModelTable, pair: _Pair) -> JudgedUpdate:
    """Ask for the loss around the weights before an update."""
    layout = description.run
    saved = read_tensors(pair.before / layout.weights)
    moments = [read_tensors(folder / layout.optimizer) for folder in (pair.before, pair.after)]
    before, after = (
        {n: m[layout.m.format(name=n)] for n in saved if layout.m.format(name=n) in m} for m in moments
    )
    if not after:
        raise GateError(f"{layout.optimizer} holds no first moment of a parameter (such as {layout.m!r})")
    settings = {**optimizer_of(pair.run, description), **description.optimizer}
    try:
        gradient = unclipped(
            before,
            after,
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
    batch, other = _batch(model, description, pair)
    base = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in saved.items()}
    copies = _copies(base, set(after))

    def losses(weights: Any) -> list[float]:
        return model.losses(pair.run, (_with_copies(w, copies) for w in weights), batch)

    try:
        at = loss_at(losses, base, gradient)
        found = compare(losses, base, gradient, at.noise, pair.step)
        return JudgedUpdate(pair.step, pair.line, at, found, other_rows=other)
    except NotInDouble as error:
        return JudgedUpdate(pair.step, pair.line, None, [], str(error), other)


def _batch(
    model: AskedModel, description: Description, pair: _Pair
) -> tuple[dict[str, Any], list[int] | None]:
    """(What the loss is asked of, rows that the verb says and the log does not).

    The rows of the update are those of its line of the log, or else of the verb; masks are there if there is a verb.
    """
    batch: dict[str, Any] = {"update": pair.step}
    said = model.rows(pair.run, [pair.step])[pair.step] if description.offers("rows") else None
    logged = natural_numbers("rows of the log", pair.line["rows"]) if "rows" in pair.line else said
    if logged is not None:
        batch["rows"] = logged
    if description.offers("masks"):
        path = model.home / f"masks-{pair.step}.safetensors"
        path.write_bytes(tensors.write(model.masks(pair.run, pair.step)))
        batch["masks"] = str(path)
    return batch, said if said != logged else None


def optimizer_of(run: Path, description: Description) -> dict[str, Any]:
    """config.optimizer of the manifest; empty if there is none."""
    path = run / description.run.manifest
    if not path.exists():
        return {}
    try:
        said = guarded_files.read_json(path)
    except guarded_files.UnreadableError as error:
        raise GateError(str(error)) from None
    config = said.get("config") if isinstance(said, dict) else None
    found = config.get("optimizer") if isinstance(config, dict) else None
    return dict(found) if isinstance(found, dict) else {}


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
