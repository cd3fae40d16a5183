"""`Recorder`: writes the run directory of a training loop, and continues it after an interruption.

    declared = adamw_settings(model, optimizer, clip_norm=1.0)
    rec = Recorder("runs/1", config={"batch_size": 8}, seed=1, optimizer_settings=declared)
    start = rec.resume(model, optimizer, scheduler=scheduler, generators={"data": generator})
    for step in range(start.step + 1, steps + 1):
        ...                                                   # one update
        rec.log(step=step, loss=loss, lr=lr, grad_norm=norm)
        if step % 10 == 0:
            rec.save(step)
    rec.finish(val_loss=val_loss)

The layout, each file and each field: docs/run-directory.md.
"""

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from honestloop.atomic_write import sync_folder, write_atomically
from honestloop.guarded_files import UnreadableError, read_json
from honestloop.recorder import array_state, checkpoint_files, facts, generators, settings
from honestloop.recorder.errors import RecorderError
from honestloop.recorder.json_state import decode, encode
from honestloop.recorder.snapshot import Snapshot
from honestloop.recorder.train_log import TrainLog, plain, starts_with

MANIFEST, LOG, CHECKPOINTS, RESULTS = "manifest.json", "train_log.jsonl", "checkpoints", "results.json"


@dataclass(frozen=True)
class Resumed:
    """Where to go on: `step` updates are done (0: begin).

    `model` and `optimizer` are those that were given, for PyTorch restored in place; for optax and plain arrays they
    are new. `extra` is what the last `save` was given, or {}.
    """

    step: int
    model: Any = None
    optimizer: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


class Recorder:
    """One run directory, `out`; its manifest is on the disk when this returns.

    `config`: every setting, as JSON values. `optimizer_settings`: the part of it, `config["optimizer"]`, from which
    the updates are judged (`adamw_settings` reads it from a PyTorch optimizer). `rng`: the name of the random generator
    that is used, or an object with `algorithm` and what else tells. `devices`: what is computed on, found out if None.
    A directory that holds a run is continued: `config` and `seed` must be those that it began with.
    RecorderError if it holds anything else.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        config: Mapping[str, Any],
        seed: int,
        optimizer_settings: Mapping[str, Any] | None = None,
        rng: str | Mapping[str, Any] = "not stated",
        devices: list[str] | None = None,
    ) -> None:
        self.path = Path(out)
        said = {key: plain(value, f"config.{key}") for key, value in config.items()}
        if optimizer_settings is not None:
            declared = plain(settings.checked(optimizer_settings), "optimizer_settings")
            if said.setdefault("optimizer", declared) != declared:
                raise RecorderError("config.optimizer and optimizer_settings differ")
        about = {"algorithm": rng} if isinstance(rng, str) else plain(rng, "rng")
        self._state: dict[str, Any] = {}
        self._log: TrainLog | None = None
        if names := [name for name in _names(self.path) if not name.endswith(".tmp")]:
            _require_the_same_run(self.path, names, said, seed)
        else:
            _begin(self.path, facts.gathered(said, seed, about, devices))

    def resume(
        self,
        model: Any = None,
        optimizer: Any = None,
        *,
        scheduler: Any = None,
        generators: Mapping[str, Any] | None = None,
        stateful: Mapping[str, Any] | None = None,
        masters: Mapping[str, Any] | None = None,
    ) -> Resumed:
        """Restore the newest checkpoint that is whole, cut the log back to it, and say where to go on.

        `model` and `optimizer`: a PyTorch module and optimizer; a tree of parameters and an optax state; or arrays by
        name and {"m": {...}, "v": {...}, "t": int}. `scheduler`, and each of `stateful`: objects with state_dict() and
        load_state_dict(). `generators`: random generators by name. `masters`: the unrounded copies, by the names of
        the parameters, if the optimizer updates these. RecorderError if there are checkpoints and none can be used; the
        directory is then left as it is.
        """
        self._state = {
            "model": model,
            "optimizer": optimizer,
            "stateful": {**(stateful or {}), **({"scheduler": scheduler} if scheduler is not None else {})},
            "generators": dict(generators or {}),
            "masters": masters,
        }
        found = self._newest()
        position = found.state["log"] if found else None
        resumed = self._restored(found) if found else Resumed(0, model, optimizer)
        self._log = TrainLog(self.path / LOG, position)
        return resumed

    def restore_generators(self) -> None:
        """Put the generators back to the resumed state once more, if something has drawn from them since resume()."""
        for name, state in self._state.get("generator states", {}).items():
            generators.restore(self._state["generators"][name], decode(state), name)

    def log(self, *, step: int, loss: Any, lr: Any, **others: Any) -> None:
        """Write the line of an update: `step` from 1, `loss` in nats a token, `lr` the rate that was used; scalars.

        Worth giving: `grad_norm` (before clipping), `tokens`, `epoch`, `rows`, `skipped`, `val_loss`, `seconds`.
        RecorderError if the step is not the next one or a number is not finite.
        """
        self._opened().append({"step": step, "loss": loss, "lr": lr, **others})

    def save(
        self, step: int, model: Any = None, optimizer: Any = None, *, extra: Mapping[str, Any] | None = None
    ) -> Path:
        """Write the checkpoint of `step`, the last that was logged (0: before the first update); its folder.

        What was given to `resume` is saved; give `model` and `optimizer` anew where updates make new ones (optax, plain
        arrays). `extra`: whatever else resumes the run, JSON and arrays.
        """
        log = self._opened()
        if step != log.step:
            raise RecorderError(f"save({step}): the last line of the log is of step {log.step}")
        held = self._state
        model = held["model"] if model is None else model
        optimizer = held["optimizer"] if optimizer is None else optimizer
        if model is None or optimizer is None:
            raise RecorderError("save: needs a model and an optimizer, here or in resume()")
        taken = _snapshot(model, optimizer, held["masters"])
        state = {
            "step": step,
            "log": log.position(),
            "kind": taken.kind,
            "optimizer": taken.state,
            "stateful": {name: encode(one.state_dict(), name) for name, one in held["stateful"].items()},
            "generators": {
                name: encode(generators.state_of(one, name), name) for name, one in held["generators"].items()
            },
            "extra": encode(dict(extra or {}), "extra"),
        }
        return checkpoint_files.write(self.path / CHECKPOINTS, step, taken.files, state)

    def finish(self, **results: Any) -> None:
        """Write results.json, the last file of a run, with its number of steps and these final numbers."""
        log = self._opened()
        log.position()
        write_results(self.path, log.step, results)

    def _opened(self) -> TrainLog:
        if self._log is None:
            raise RecorderError(
                f"{self.path}: call resume() before the first update; of a new run it returns step 0"
            )
        return self._log

    def _newest(self) -> checkpoint_files.Stored | None:
        """The last checkpoint that is whole and fits the log; None if none was ever written."""
        problems = []
        for step in _steps(self.path / CHECKPOINTS):
            path = self.path / CHECKPOINTS / f"step-{step:08d}"
            try:
                stored = checkpoint_files.read(path)
                if starts_with(self.path / LOG, stored.state["log"]):
                    return stored
                problems.append(f"{path}: {LOG} is not the log it was written with")
            except UnreadableError as error:
                problems.append(str(error))
            except (KeyError, TypeError) as error:
                problems.append(f"{path / checkpoint_files.STATE}: malformed ({error!r})")
        if problems:
            raise RecorderError(f"no checkpoint can be used; the run was left as it is: {problems[0]}")
        return None

    def _restored(self, found: checkpoint_files.Stored) -> Resumed:
        held, state = self._state, found.state
        for part in ("stateful", "generators"):
            if names := sorted(state[part].keys() ^ held[part].keys()):
                where = "resume()" if names[0] in held[part] else "the checkpoint"
                raise RecorderError(f"{found.path}: {part}: only {where} has {names[0]!r}")
        saved = Snapshot(state["kind"], found.files, state["optimizer"])
        model, optimizer = _restore(held["model"], held["optimizer"], saved, held["masters"])
        for name, one in held["stateful"].items():
            one.load_state_dict(decode(state["stateful"][name]))
        held["generator states"] = state["generators"]
        self.restore_generators()
        held["model"], held["optimizer"] = model, optimizer
        return Resumed(state["step"], model, optimizer, decode(state["extra"]))


def _names(path: Path) -> list[str]:
    """What is in the directory; nothing if there is none. RecorderError if something else has its name."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise RecorderError(f"{path}: is no folder; choose another") from None


def write_results(path: Path, steps: int, results: Mapping[str, Any]) -> None:
    """results.json of the run directory `path`, whole or not at all."""
    numbers = {name: plain(value, name) for name, value in results.items()}
    write_atomically(path / RESULTS, checkpoint_files.json_bytes({"steps": steps, **numbers}).decode())


def _begin(path: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest; a directory that is made for it has a temporary name until it is on the disk."""
    text = checkpoint_files.json_bytes(manifest).decode()
    if path.exists():
        return write_atomically(path / MANIFEST, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.absolute().with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.mkdir()
        write_atomically(temporary / MANIFEST, text)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.absolute().parent)


def _steps(folder: Path) -> list[int]:
    try:
        return checkpoint_files.steps(folder)
    except UnreadableError as error:
        raise RecorderError(str(error)) from None


def _require_the_same_run(path: Path, names: list[str], config: dict[str, Any], seed: int) -> None:
    if MANIFEST not in names:
        raise RecorderError(
            f"{path}: holds {names[0]} and no {MANIFEST}: not a run directory; choose another"
        )
    try:
        said = read_json(path / MANIFEST)
        began = {"seed": said["seed"], **said["config"]}
    except UnreadableError as error:
        raise RecorderError(str(error)) from None
    except (KeyError, TypeError) as error:
        raise RecorderError(f"{path / MANIFEST}: malformed ({error!r})") from None
    now = {"seed": str(seed), **config}
    for key in sorted(began.keys() | now.keys()):
        if began.get(key) != now.get(key):
            raise RecorderError(f"{path}: began with {key} = {began.get(key)!r}, not {now.get(key)!r}")


def _snapshot(model: Any, optimizer: Any, masters: Any) -> Snapshot:
    if _is_torch(optimizer):
        from honestloop.recorder import torch_state

        return torch_state.snapshot(model, optimizer, masters)
    if _is_plain(optimizer):
        return array_state.snapshot(model, optimizer)
    from honestloop.recorder import optax_state

    return optax_state.snapshot(model, optimizer)


def _restore(model: Any, optimizer: Any, saved: Snapshot, masters: Any) -> tuple[Any, Any]:
    kind = (
        "torch"
        if _is_torch(optimizer)
        else "arrays"
        if _is_plain(optimizer) or optimizer is None
        else "optax"
    )
    if kind != saved.kind:
        raise RecorderError(f"the checkpoint is of kind {saved.kind!r}, the optimizer given of kind {kind!r}")
    if kind == "torch":
        from honestloop.recorder import torch_state

        torch_state.restore(model, optimizer, saved, masters)
        return model, optimizer
    if kind == "arrays":
        return array_state.restore(saved)
    from honestloop.recorder import optax_state

    return optax_state.restore(model, optimizer, saved)


def _is_torch(optimizer: Any) -> bool:
    return hasattr(optimizer, "param_groups")


def _is_plain(optimizer: Any) -> bool:
    return isinstance(optimizer, Mapping) and "m" in optimizer and "v" in optimizer
