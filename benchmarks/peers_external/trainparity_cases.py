"""What TrainParity is told of the loop that stands beside this file: it imports both in processes of its own."""

import sys
from typing import Any

import plain_loop
import torch
from trainparity.api import LossAccounting, TrainingState


class Resume:
    """The loop's own command, checkpoint and resume."""

    name = "plain loop, resumed"
    split_step, total_step = 5, 10

    def command(self, plan: Any) -> list[str]:
        """The command of one process."""
        command = [sys.executable, plain_loop.__file__]
        command += ["--run-dir", str(plan.run_dir), "--end-step", str(plan.end_step)]
        return command + (["--resume-from", str(plan.resume_from)] if plan.resume_from else [])

    def checkpoint_path(self, run_dir: Any) -> Any:
        """Where the loop leaves it."""
        return run_dir / "checkpoint.pt"

    def observe_checkpoint(self, path: Any) -> Any:
        """Its entries."""
        return torch.load(path, weights_only=True)


class Accumulation:
    """The loop's model, optimizer and loss; TrainParity cuts the batch and accumulates itself."""

    equivalence = "the same rows; the mean over the predicted tokens of all"

    def build(self, seed: int, device: str) -> TrainingState:
        """A run before its first update, without dropout, whose masks depend on how a batch is cut."""
        run = plain_loop.build(seed)
        run.model.dropout.p = 0.0
        return TrainingState(run.model, run.optimizer, run.scheduler)

    def batch(self, device: str) -> Any:
        """Two micro-batches of the loop as one batch."""
        first, second, *_ = plain_loop.micro_batches(3, 0)
        return tuple(torch.cat(parts) for parts in zip(first, second, strict=True))

    def loss(self, state: TrainingState, batch: Any) -> LossAccounting:
        """The loop's loss, as a sum and the number of its tokens."""
        total = plain_loop.loss_sum(state.model, batch)
        tokens = max(int(batch[2].sum()), 1)
        return LossAccounting(total / tokens, total, tokens)
