"""A plain PyTorch training loop, as it might be yours. Nothing in it knows of the properties; my_adapter.py does."""

import math
import random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


class Model(nn.Module):
    """The next token from one token: logits = W dropout(E[token]) + b."""

    def __init__(self, vocab, width, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        return self.head(self.dropout(self.embedding(tokens)))


def loss_sum(model, tokens, targets, mask):
    """Summed over the predicted tokens; whoever calls divides, once, by the tokens of a whole window."""
    return F.cross_entropy(model(tokens)[mask], targets[mask], reduction="sum")


def learning_rate(step, peak, floor, warmup, total):
    """nanoGPT's: linear warm-up, half a cosine, then the floor."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if step > total:
        return floor
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


class Loop:
    """Gradient accumulation, clipping, AdamW with decay for the matrices, warm-up and cosine."""

    def __init__(self, model, betas, eps, weight_decay, max_norm, schedule, seed):
        self.model, self.max_norm, self.schedule, self.seed, self.updates = model, max_norm, schedule, seed, 0
        matrices = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim == 1]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=schedule["peak"], betas=betas, eps=eps)

    def epoch(self, batches, accumulate):
        return [self.update(batches[i : i + accumulate]) for i in range(0, len(batches), accumulate)]

    def update(self, window):
        # Dropout has no state to save: its seed is a hash of the run's seed, all 64 bits of it, and of the update.
        torch.manual_seed(random.Random(f"{self.seed} {self.updates}").getrandbits(32))
        tokens, loss = sum(int(mask.sum()) for _, _, mask in window), 0.0
        self.optimizer.zero_grad()
        for batch in window:
            share = loss_sum(self.model, *batch) / max(tokens, 1)
            share.backward()
            loss += share.item()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm, error_if_nonfinite=True)
        for group in self.optimizer.param_groups:
            group["lr"] = lr = learning_rate(self.updates, **self.schedule)
        self.optimizer.step()
        self.updates += 1
        return {"loss": loss, "lr": lr, "grad_norm": norm.item(), "tokens": tokens}

    @torch.no_grad()
    def evaluate(self, batches):
        self.model.eval()
        total = sum(loss_sum(self.model, *batch).item() for batch in batches)
        self.model.train()
        return total / max(sum(int(mask.sum()) for _, _, mask in batches), 1)

    def save(self, path):
        tensors = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        for number, of_one in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": x for name, x in of_one.items()}
        save_file(tensors | {"updates": torch.tensor(self.updates)}, path)

    def load(self, path):
        saved, state = load_file(path), {}
        for name in [name for name in saved if name.startswith("optimizer.")]:
            _, number, part = name.split(".")
            state.setdefault(int(number), {})[part] = saved[name]
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.model.load_state_dict({name: saved[f"model.{name}"] for name in self.model.state_dict()})
        self.updates = int(saved["updates"])
