"""`RecorderCallback` for transformers.Trainer: a run directory of an unchanged Trainer, resumed without a pickle.

    callback = RecorderCallback("runs/1", every=10)
    trainer = Trainer(model, TrainingArguments("runs/1-trainer", save_strategy="no", ...), ..., callbacks=[callback])
    callback.train(trainer)

`callback.train` is `trainer.train(resume_from_checkpoint=callback.checkpoint())`, but for a run that is at its end: the
Trainer would make one update more. The callback makes the Trainer log every update. The Trainer's own checkpoints,
which torch.save writes, are not needed.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from honestloop.recorder import checkpoint_files
from honestloop.recorder.errors import RecorderError
from honestloop.recorder.global_generators import global_generators
from honestloop.recorder.json_state import decode
from honestloop.recorder.recorder import CHECKPOINTS, RESULTS, Recorder, write_results
from honestloop.recorder.settings import adamw_settings
from honestloop.recorder.snapshot import WEIGHTS

SETTINGS = (
    "learning_rate per_device_train_batch_size gradient_accumulation_steps max_steps num_train_epochs seed data_seed "
    "weight_decay max_grad_norm bf16 fp16 label_smoothing_factor"
).split()
"""Of the Trainer's arguments, those that decide what is trained; they go into the manifest's config."""
RESUME = "trainer"
"""A folder beside the checkpoints from which the Trainer reads its counters and weights."""


class RecorderCallback(TrainerCallback):
    """Records each update, and a checkpoint every `every` updates, after the last, and after `stop_after`, if given.

    `settings`: what the manifest says of the optimizer, where it is not what its groups and the Trainer's arguments
    say. A checkpoint of step 0 is written as well, so that the first update can be judged.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        every: int,
        stop_after: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self._every, self._stop_after = Path(out), every, stop_after
        self._settings = dict(settings or {})
        self._recorder: Recorder | None = None
        self._line: dict[str, Any] | None = None
        self._resumed = False

    def train(self, trainer: Any) -> None:
        """Train to the end, from the newest whole checkpoint; of a run that is at its end, write only its results."""
        stored = checkpoint_files.newest_whole(self.path / CHECKPOINTS)
        last = decode(stored.state["extra"])["trainer_state"]["max_steps"] if stored else math.inf
        if stored is None or stored.state["step"] < last:
            trainer.train(resume_from_checkpoint=self.checkpoint())
        elif not (self.path / RESULTS).exists():
            write_results(self.path, stored.state["step"], {})

    def checkpoint(self) -> str | None:
        """What `Trainer.train(resume_from_checkpoint=...)` wants: a folder made from the newest whole checkpoint."""
        stored = checkpoint_files.newest_whole(self.path / CHECKPOINTS)
        if stored is None or stored.state["step"] == 0:
            return None
        state = decode(stored.state["extra"])["trainer_state"]
        folder = self.path.with_name(f"{self.path.name}-{RESUME}")
        folder.mkdir(exist_ok=True)
        (folder / "trainer_state.json").write_bytes(checkpoint_files.json_bytes(state))
        (folder / "model.safetensors").write_bytes(stored.files[WEIGHTS])
        return str(folder)

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Make the run directory, or restore optimizer, schedule and generators from its newest checkpoint."""
        model, optimizer = objects["model"], objects["optimizer"]
        declared = {
            "clip_norm": args.max_grad_norm or None,
            "peak_lr": args.learning_rate,
            "min_lr": 0.0,
            "warmup_steps": args.get_warmup_steps(state.max_steps),
            "total_steps": state.max_steps,
            "schedule": getattr(args.lr_scheduler_type, "value", str(args.lr_scheduler_type)),
        } | self._settings
        config = {name: getattr(args, name, None) for name in SETTINGS} | {"checkpoint_every": self._every}
        settings = adamw_settings(model, optimizer, **declared)
        generator = "torch default generator (mt19937 on the CPU)"
        self._recorder = Recorder(
            self.path, config=config, seed=args.seed, optimizer_settings=settings, rng=generator
        )
        start = self._recorder.resume(
            model, optimizer, scheduler=objects["lr_scheduler"], generators=global_generators()
        )
        if start.step != state.global_step:
            raise RecorderError(
                f"{self.path}: its newest checkpoint is of step {start.step}, the Trainer begins at step "
                f"{state.global_step}: call train(resume_from_checkpoint=callback.checkpoint())"
            )
        self._resumed = start.step > 0
        if start.step == 0 and not start.extra:  # there is no checkpoint yet
            self._save(state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """After a resume within an epoch: undo what skipping its first batches has drawn."""
        if self._resumed and float(state.epoch or 0.0) % 1.0:
            assert self._recorder is not None
            self._recorder.restore_generators()
        self._resumed = False

    def on_step_end(self, args: Any, state: Any, control: Any, **objects: Any) -> Any:
        """Have the Trainer log this update."""
        control.should_log = True
        if self._stop_after is not None and state.global_step >= self._stop_after:
            control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Keep the numbers of the update; they are written at once, or with those of the evaluation that follows."""
        logs: Mapping[str, Any] = objects["logs"]
        if "loss" not in logs:
            return
        line = {
            "step": state.global_step,
            "loss": logs["loss"],
            "lr": logs["learning_rate"],
            "epoch": state.epoch,
        }
        self._line = line | ({"grad_norm": logs["grad_norm"]} if "grad_norm" in logs else {})
        if not control.should_evaluate:
            self._write(state, control)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **objects: Any
    ) -> None:
        """Write the line of the update with its validation loss."""
        if self._line is not None:
            if metrics and "eval_loss" in metrics:
                self._line["val_loss"] = metrics["eval_loss"]
            self._write(state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Write the results of a run that came to its last update."""
        if self._recorder is not None and state.global_step >= state.max_steps:
            self._recorder.finish()

    def _write(self, state: Any, control: Any) -> None:
        assert self._recorder is not None
        assert self._line is not None
        self._recorder.log(**self._line)
        self._line = None
        if state.global_step % self._every == 0 or control.should_training_stop:
            self._save(state)

    def _save(self, state: Any) -> None:
        assert self._recorder is not None
        # What the Trainer reads back; its history is the log, and times and FLOPs differ between equal runs.
        kept = {**dataclasses.asdict(state), "log_history": [], "total_flos": 0}
        self._recorder.save(state.global_step, extra={"trainer_state": kept})
