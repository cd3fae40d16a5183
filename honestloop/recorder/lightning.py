"""`RecorderCallback` for Lightning: a run directory of an unchanged Trainer and module, resumed without a pickle.

    callback = RecorderCallback("runs/1", every=10, config={"batch_size": 8}, seed=1)
    trainer = Trainer(max_steps=40, callbacks=[callback], enable_checkpointing=False, gradient_clip_val=1.0)
    trainer.fit(module, loader)

The module optimizes automatically, with one optimizer. Lightning itself does not skip what an epoch had read before an
interruption: to go on in the middle of one, the loader has `state_dict` and `load_state_dict`.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from honestloop.recorder import checkpoint_files
from honestloop.recorder.errors import RecorderError
from honestloop.recorder.global_generators import global_generators
from honestloop.recorder.json_state import decode
from honestloop.recorder.recorder import CHECKPOINTS, RESULTS, Recorder, write_results
from honestloop.recorder.settings import adamw_settings


class RecorderCallback(Callback):
    """Records each update, and a checkpoint every `every` updates, after the last, and after `stop_after`, if given.

    `config`: the settings of the run. `settings`: what the manifest says of the optimizer, where it is not what its
    groups and the Trainer's clipping say. A checkpoint of step 0 is written as well.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        every: int,
        config: Mapping[str, Any],
        seed: int,
        stop_after: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self._every, self._stop_after, self._seed = Path(out), every, stop_after, seed
        self._config, self._settings = dict(config), dict(settings or {})
        self._losses: list[torch.Tensor] = []
        self._line: dict[str, float] = {}
        self._updates = 0
        self._resumed_generators: Any = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Give Lightning its counters, and the loader's place, before it begins.

        Of a run that is at its end Lightning trains nothing, and calls no other hook: its results are written here.
        """
        stored = checkpoint_files.newest_whole(self.path / CHECKPOINTS)
        if stored is None or stored.state["step"] == 0:
            return
        trainer.fit_loop.load_state_dict(decode(stored.state["extra"])["fit_loop"])
        if stored.state["step"] == trainer.max_steps and not (self.path / RESULTS).exists():
            write_results(self.path, trainer.max_steps, {})

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the run directory, or restore the newest checkpoint of it."""
        if len(trainer.optimizers) != 1:
            raise RecorderError(
                f"the callback records one optimizer, the module has {len(trainer.optimizers)}"
            )
        (optimizer,) = trainer.optimizers
        clip = trainer.gradient_clip_val if trainer.gradient_clip_val else None
        settings = adamw_settings(pl_module, optimizer, **{"clip_norm": clip, **self._settings})
        config = {"checkpoint_every": self._every, **self._config}
        self.recorder = Recorder(
            self.path,
            config=config,
            seed=self._seed,
            optimizer_settings=settings,
            rng="torch default generator",
        )
        schedulers = {f"scheduler {i}": one.scheduler for i, one in enumerate(trainer.lr_scheduler_configs)}
        start = self.recorder.resume(
            pl_module, optimizer, stateful=schedulers, generators=global_generators()
        )
        if start.step != trainer.global_step:
            raise RecorderError(
                f"{self.path}: is at step {start.step}, Lightning at step {trainer.global_step}"
            )
        self._updates = start.step
        self._resumed_generators = start.extra.get("generators")
        if start.step == 0 and not start.extra:  # there is no checkpoint yet
            self.recorder.save(0, extra={"fit_loop": None})

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """After a resume: undo what making the loader's iterator has drawn."""
        if self._resumed_generators is not None:
            self.recorder.restore_generators()
            self._resumed_generators = None

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Keep the loss of a micro-batch, which Lightning has divided by their number."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """The rate of the update, and the norm of its gradient before it is clipped."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._line = {"lr": float(optimizer.param_groups[0]["lr"]), "grad_norm": float(norm)}

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the line of the update, if there was one, and a checkpoint if it is due."""
        if trainer.global_step == self._updates:
            return
        self._updates = trainer.global_step
        loss = math.fsum(float(part) for part in self._losses)
        self._losses.clear()
        self.recorder.log(step=self._updates, loss=loss, **self._line, epoch=trainer.current_epoch)
        stop = self._updates in (self._stop_after, trainer.max_steps)
        if self._updates % self._every == 0 or stop:
            self.recorder.save(
                self._updates, extra={"fit_loop": trainer.fit_loop.state_dict(), "generators": True}
            )
        if stop:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the results of a run that came to its last update."""
        if self._updates == trainer.max_steps:
            self.recorder.finish()
