"""The training loop, and what it is resumed from."""

import math
import signal
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from torch_phase18 import chance, checkpoint
from torch_phase18.data import Batches, batch_of
from torch_phase18.errors import NonFiniteError, UsageError
from torch_phase18.log import TrainLog, begins_with, lines
from torch_phase18.model import WIDTH, MiniGPT, initialise
from torch_phase18.optim import Optimizer
from torch_phase18.run import CHECKPOINTS, LOG, Run

torch.set_num_threads(1)  # the arrays are small, and one thread adds up in a fixed order
torch.use_deterministic_algorithms(True)

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Stop:
    """When to stop early: after an update, or on SIGINT or SIGTERM, once the update is done."""

    def __init__(self, after: int | None) -> None:
        self.after, self.signalled = after, False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def due(self, step: int) -> bool:
        """Whether to stop after this many updates."""
        return self.signalled or (self.after is not None and step >= self.after)

    def _note(self, number: int, frame: Any) -> None:
        self.signalled = True


class Loop:
    """Everything that changes from update to update."""

    def __init__(self, run: Run) -> None:
        self.run, self.config, self.seed = run, run.config, run.config["seed"]
        self.model = MiniGPT(DTYPES[self.config["dtype"]])
        initialise(self.model, self.seed)
        self.optimizer = Optimizer(self.model, self.config["optimizer"], self.config["steps"])
        self.batches = Batches(run.sequences["train"], self.config["batch_size"], self.seed)
        self.best: dict[str, Any] | None = None
        self.position: dict[str, Any] | None = None  # of the log, at the checkpoint that was restored

    @property
    def step(self) -> int:
        """How many updates were made."""
        return self.optimizer.t

    def train(self, log: TrainLog, stop: Stop) -> None:
        """Go on to the last update or to the stop; the last one made is in a checkpoint."""
        steps, saved = self.config["steps"], self.step if self.position else None
        while self.step < steps and not stop.due(self.step):
            line = self.update()
            if self._due("eval_every"):
                line |= self._evaluate()
            log.append(line)
            if self._due("checkpoint_every"):
                saved = self._save(log)
        if saved != self.step:
            self._save(log)

    def update(self) -> dict[str, Any]:
        """One update and its line of the log. NonFiniteError before a NaN or an infinity reaches a parameter."""
        rows = self.batches.rows()
        batch, rate, step = self.batches.batch(rows), self.optimizer.rate, self.step + 1
        p, tokens, nll = self.config["dropout"], batch.predicted, 0.0
        masks = chance.masks(self.seed, step, p, (*batch.tokens.shape, WIDTH)) if p else []
        self.optimizer.adamw.zero_grad()
        start = 0
        for part in batch.parts(self.config["micro_batches"]):
            kept = [mask[start : start + len(part.tokens)] for mask in masks]
            start += len(part.tokens)
            losses = self.model.nll(part, masks=kept, p=p)
            (losses.sum() / tokens).backward()
            nll += float(losses.detach().to(torch.float64).sum())
        clip = self.config["optimizer"]["clip_norm"]
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), clip, foreach=False))
        refuse_non_finite(step, loss=nll, gradient_norm=norm)
        self.optimizer.step()
        return {
            "step": step,
            "epoch": self.batches.epoch,
            "loss": nll / tokens,
            "lr": rate,
            "grad_norm": norm,
            "tokens": tokens,
            "rows": rows,
        }

    def _due(self, setting: str) -> bool:
        return self.step % self.config[setting] == 0 or self.step == self.config["steps"]

    def _evaluate(self) -> dict[str, float]:
        nll, tokens = score(self.model, self.run.sequences["val"], self.config["batch_size"])
        loss = nll / tokens
        refuse_non_finite(self.step, validation_perplexity=perplexity(nll, tokens))
        if self.best is None or loss < self.best["val_loss"]:
            self.best = {"step": self.step, "val_loss": loss}
        return {"val_loss": loss, "val_ppl": math.exp(loss)}

    def _save(self, log: TrainLog) -> int:
        control = {"algorithm": chance.ALGORITHM, "seed": self.seed, "update": self.step}
        machines = self.optimizer.state() | {"data": self.batches.state(), "control": control}
        state = {"step": self.step, "machines": machines, "log": log.position(), "best": self.best}
        folder, run_id = self.run.path / CHECKPOINTS, self.run.manifest["run_id"]
        weights = dict(self.model.named_parameters())
        checkpoint.save(folder, run_id, self.step, weights, self.optimizer.moments(), state)
        return self.step

    def restore_newest(self) -> None:
        """From the newest checkpoint that is whole and fits the log. UsageError if one must be there, and is not."""
        folder, log = self.run.path / CHECKPOINTS, self.run.path / LOG
        for found in checkpoint.intact(folder, self.run.manifest["run_id"]):
            if isinstance(found, str):
                print(found, file=sys.stderr)
            elif begins_with(log, found[0]["log"]):
                return self._restore(*found)
        if len(lines(log)) > self.config["checkpoint_every"] or any(folder.glob("step-*")):
            raise UsageError(f"{folder}: no checkpoint there can be used; the run was left as it is")

    def _restore(self, state: Any, weights: dict[str, Any], moments: dict[str, Any]) -> None:
        self.model.load_state_dict(weights)
        self.optimizer.restore(state["machines"]["optimizer"]["t"], moments)
        self.batches.restore(state["machines"]["data"])
        self.best, self.position = state["best"], state["log"]


@torch.no_grad()
def score(model: MiniGPT, sequences: Sequence[Sequence[int]], size: int) -> tuple[float, int]:
    """(sum of -log p in nats, number of predicted tokens), without dropout."""
    nll, tokens = 0.0, 0
    for start in range(0, len(sequences), size):
        batch = batch_of(sequences[start : start + size])
        nll += float(model.nll(batch).to(torch.float64).sum())
        tokens += batch.predicted
    return nll, tokens


def perplexity(nll: float, tokens: int) -> float:
    """exp of the mean; infinite beyond the largest double."""
    try:
        return math.exp(nll / tokens)
    except OverflowError:
        return math.inf


def refuse_non_finite(step: int, **values: float) -> None:
    """NonFiniteError that names the first of the values which is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFiniteError(
                f"step {step}: the {name.replace('_', ' ')} is {value}; nothing of it was kept"
            )
