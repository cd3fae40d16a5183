"""A small training loop in PyTorch, as many are written: right as it stands, and given to other tools with one fault.

python plain_loop.py --run-dir DIR --end-step N [--resume-from FILE] trains and leaves DIR/checkpoint.pt.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

VOCAB, WIDTH, CONTEXT, ROWS, BATCH, ACCUMULATE = 13, 8, 6, 28, 4, 2
PEAK, WARMUP, HORIZON, DROPOUT, DECAY, EPSILON, MAX_NORM = 1e-2, 3, 40, 0.1, 0.1, 1e-8, 0.1


class Model(nn.Module):
    """Logits [B, T, V] of tokens [B, T], each from its own token alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.norm = nn.LayerNorm(WIDTH)
        self.hidden = nn.Linear(WIDTH, 4 * WIDTH)
        self.head = nn.Linear(4 * WIDTH, VOCAB)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The logits."""
        x = self.embedding(tokens)
        x = self.dropout(x)
        x = F.gelu(self.hidden(self.norm(x)))
        logits = self.head(x)
        return logits


@dataclass
class Run:
    """A run and its state."""

    model: Model
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    updates: int = 0


def rate(update: int) -> float:
    """Share of the peak: linear warm-up, then linear decay to a tenth."""
    if update < WARMUP:
        return (update + 1) / WARMUP
    return max(0.1, 1.0 - (update - WARMUP) / (HORIZON - WARMUP))


def build(seed: int) -> Run:
    """A run before its first update."""
    torch.manual_seed(seed)
    model = Model()
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99), eps=EPSILON)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    return Run(model, optimizer, scheduler)


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """The order of the rows in an epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(n, generator=generator).tolist()
    return order


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens [N, T + 1], no two rows alike, how many of each are predicted [N])."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randperm(3 * VOCAB, generator=generator)[:ROWS, None]
    start, steps = chosen % VOCAB, 1 + chosen // VOCAB
    lengths = torch.randint(2, CONTEXT + 1, (ROWS,), generator=generator)
    return (start + steps * torch.arange(CONTEXT + 1)) % VOCAB, lengths


def micro_batches(seed: int, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(input, target, mask) of each micro-batch of an epoch, [B, T]."""
    tokens, lengths = rows()
    order = epoch_order(ROWS, seed, epoch)
    found = []
    for first in range(0, ROWS, BATCH):
        chosen = order[first : first + BATCH]
        mask = torch.arange(CONTEXT) < lengths[chosen][:, None]
        inputs, targets = tokens[chosen, :-1], tokens[chosen, 1:]
        found.append((inputs, targets, mask))
    return found


def token_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of each token."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)


def loss_sum(model: nn.Module, batch: Any) -> torch.Tensor:
    """The summed loss of a micro-batch over its predicted tokens."""
    inputs, targets, mask = batch
    logits = model(inputs)
    return (token_losses(logits, targets) * mask).sum()


def train_window(run: Run, window: list[Any]) -> dict[str, float]:
    """One update from all micro-batches of a window."""
    run.model.train()
    run.optimizer.zero_grad(set_to_none=True)
    tokens = max(sum(int(mask.sum()) for _, _, mask in window), 1)
    total = 0.0
    for batch in window:
        loss = loss_sum(run.model, batch) / tokens
        loss.backward()
        total += loss.item()
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), MAX_NORM)
    lr = float(run.scheduler.get_last_lr()[0])
    run.optimizer.step()
    run.scheduler.step()
    run.updates += 1
    return {"loss": total, "grad_norm": float(norm), "lr": lr, "tokens": float(tokens)}


def windows(batches: list[Any], accumulate: int) -> list[list[Any]]:
    """The micro-batches of each update."""
    return [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]


def evaluate(model: nn.Module, batches: list[Any]) -> float:
    """Loss per predicted token of all batches together."""
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            total += loss_sum(model, batch).item()
            tokens += int(batch[2].sum())
    model.train(was_training)
    return total / max(tokens, 1)


def save(run: Run, path: Path) -> None:
    """A checkpoint of everything."""
    state = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scheduler": run.scheduler.state_dict(),
        "updates": run.updates,
        "rng": torch.get_rng_state(),
    }
    torch.save(state, path)


def load(run: Run, path: Path) -> None:
    """Go on from a checkpoint."""
    state = torch.load(path, weights_only=True)
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.scheduler.load_state_dict(state["scheduler"])
    run.updates = state["updates"]
    torch.set_rng_state(state["rng"])


def train(run: Run, end: int, seed: int) -> list[dict[str, float]]:
    """Train to this update; an evaluation after each epoch."""
    records = []
    per_epoch = len(windows(micro_batches(seed, 0), ACCUMULATE))
    while run.updates < end:
        epoch, place = divmod(run.updates, per_epoch)
        planned = windows(micro_batches(seed, epoch), ACCUMULATE)
        records.append(train_window(run, planned[place]))
        if place == per_epoch - 1:
            records[-1]["val_loss"] = evaluate(run.model, micro_batches(seed, 0))
    return records


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--end-step", type=int, required=True)
    parser.add_argument("--resume-from", type=Path)
    options = parser.parse_args()
    run = build(3)
    if options.resume_from:
        load(run, options.resume_from)
    train(run, options.end_step, 3)
    options.run_dir.mkdir(parents=True, exist_ok=True)
    save(run, options.run_dir / "checkpoint.pt")


if __name__ == "__main__":
    main()
