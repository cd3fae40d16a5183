"""What adapters of frameworks on PyTorch share: model, batches, a trainer alone in its process."""

import functools
import gc
import math
import random
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)  # this model is small, and sums are then always in one order
OWNED_LOOP = {
    "norm": "dtype",
    "generator": "own",
    "epochs": "fit",
    "accumulate": "setting",
    "epoch_edge": "draws",
}
"""Conventions of a loop on PyTorch that owns its epochs and is handed a DataLoader, which draws when it is begun."""
IGNORED = -100
"""The label of a position that is not predicted, as F.cross_entropy has it."""


def tensor(x, dtype=None):
    """A copy of an array, whatever its memory layout is."""
    return torch.tensor(np.array(x, order="C"), dtype=dtype)


def labelled(batches):
    """(tokens, labels) of each batch, int64 [B, T]: the label of a masked position is IGNORED."""
    return [(x.long(), torch.where(mask, y.long(), IGNORED)) for x, y, mask in map(tensors, batches)]


def tensors(batch):
    """Its arrays as tensors."""
    return [tensor(x) for x in batch]


def narrow(seed):
    """A seed of 32 bits that is another one for seeds that differ in any bit, as far as that can be."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


class SmallModel(torch.nn.Module):
    """logits [B, T, V] = dropout(E[tokens]) @ W + b, in the dtype of the arrays E [V, D], W [D, V] and b [V]."""

    def __init__(self, params, dropout):
        super().__init__()
        vocab, width = params["E"].shape
        dtype = tensor(params["E"]).dtype
        self.embedding = torch.nn.Embedding(vocab, width, dtype=dtype)
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(width, vocab, dtype=dtype)
        for name, weight in self.named().items():
            weight.data.copy_(tensor(params[name]))

    def named(self):
        """The weights by the names of the protocol: W is the transposed weight of the head."""
        return {"E": self.embedding.weight, "W": self.head.weight.T, "b": self.head.bias}

    def forward(self, tokens):
        """Logits [B, T, V] of tokens [B, T]."""
        return self.head(self.dropout(self.embedding(tokens)))

    def loss(self, tokens, labels):
        """The mean over the predicted tokens, in nats: what a beginner writes, and every framework's example."""
        return F.cross_entropy(self(tokens).flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


class OwnedLoop:
    """A trainer of the protocol around a framework that owns its epochs.

    Give it `run(micro_batches, epochs, resumed)`, where `resumed` is the folder of the run to go on with, or None, and
    `evaluate(batches)` if the framework has that.

    It has `model`, made by `model(params, dropout)`; `records`, see `record`; `folder` for checkpoints, which the
    caller wants if `keeps`; `stop_after`, the update after which fit returns, None if it does not; and `lowest_share`,
    the floor of the learning rate as a share of its peak.
    """

    def __init__(self, model, params, settings):
        spare_the_collector()
        self.settings, self.model, self.records = settings, model(params, settings["dropout"]), []
        self.keeps, self.stop_after = "folder" in settings, settings.get("stop_after")
        self.lowest_share = settings["floor"] / settings["peak"] if settings["peak"] else 0.0
        self._temporary = None if self.keeps else tempfile.TemporaryDirectory(prefix="loop-")
        self.folder = settings["folder"] if self.keeps else self._temporary.name

    def fit(self, micro_batches, epochs, resume=None):
        """The records of all epochs; of none at all where there is no data, which frameworks refuse."""
        if micro_batches:
            self.run(micro_batches, epochs, self.folder if resume is True else resume)
        return self.records

    def record(self, loss, lr, *grad_norm):
        """Of one update: its loss, its rate and, if the framework tells it, the norm before clipping."""
        self.records.append(dict(zip(("loss", "lr", "grad_norm"), (loss, lr, *grad_norm), strict=False)))

    def adamw(self):
        """(torch.optim.AdamW with decay for the matrices alone, the schedule that ticks once an update)."""
        s, bias = self.settings, self.model.head.bias
        rest = [p for p in self.model.parameters() if p is not bias]
        groups = [
            {"params": rest, "weight_decay": s["weight_decay"]},
            {"params": [bias], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=s["peak"], betas=(s["beta1"], s["beta2"]), eps=s["eps"])
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, functools.partial(nanogpt_share, s))

    def parameters(self):
        """Copies of the weights, by name."""
        return {name: x.detach().numpy().copy() for name, x in self.model.named().items()}


def nanogpt_share(settings, update):
    """The rate of an update as a share of the peak: (k + 1) / (W + 1), then a half cosine to the floor at N, which
    stays. For LambdaLR, which asks one update ahead."""
    warmup, total = settings["warmup"], settings["total"]
    if update < warmup:
        return (update + 1) / (warmup + 1)
    floor = settings["floor"] / settings["peak"] if settings["peak"] else 0.0
    done = min((update - warmup) / (total - warmup), 1.0) if total > warmup else 1.0
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))


@functools.cache
def spare_the_collector():
    """What the process has imported so far is never garbage: a framework that collects in every run need not look."""
    gc.freeze()


def alone(method):
    """The method as in a process of its own: while it works, the global generators are those of its trainer.

    A framework draws from PyTorch's, NumPy's and Python's global generators, and one process trains one model. Here
    many trainers live in one process; each goes on with the generators as its last method has left them.
    """

    @functools.wraps(method)
    def run(self, *arguments, **named):
        outside = states()
        restore(self.__dict__.get("_generators", outside))
        try:
            return method(self, *arguments, **named)
        finally:
            self._generators = states()
            restore(outside)

    return run


def states():
    """The states of the three global generators."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def restore(kept):
    """Put them back."""
    torch.set_rng_state(kept[0])
    np.random.set_state(kept[1])  # noqa: NPY002
    random.setstate(kept[2])
