"""Loss and gradients with autocast and with recomputation, beside PyTorch's, in alternation in one process.

python -m benchmarks.precision prints rows for docs/performance.md. A multiple is a way's time over that of the same
side without it, in the same round: the median of the rounds, with quartiles; forward and backward pass with dropout of
0.1. Memory: of impl, what a worker holds for activations and masks; of PyTorch, the bytes of distinct tensors that the
forward pass saves for the backward pass (torch.autograd.graph.saved_tensors_hooks), parameters left out.
"""

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.compare import inputs, timed
from benchmarks.peers import CONFIG
from fixtures.subjects import pytorch
from fixtures.subjects.torch_recomputation import Blocks
from honestloop.suite_location import in_suite

POSITIONS, RATE, ROUNDS, TIMES = 896, 0.1, 21, 4
WAYS = {
    "as it is": ("none", False),
    "autocast to bfloat16": ("bfloat16", False),
    "autocast to float16": ("float16", False),
    "recomputation": ("none", True),
    "both, bfloat16": ("bfloat16", True),
}
DEPTHS = (2, 8)
"""Blocks of the models whose memory is compared."""


def of_impl(module: str, name: str) -> Any:
    """A name of a module of impl, which is a subject like another and is not imported by name."""
    return getattr(importlib.import_module(in_suite(f"impl.{module}")), name)


def model_of(layers: int, autocast: str, recompute: bool) -> Any:
    """impl's model of so many blocks."""
    config: dict[str, Any] = CONFIG | {"n_layers": layers}
    params, _ = inputs("float32", POSITIONS, config)
    MiniGPT, ModelConfig = of_impl("model.minigpt", "MiniGPT"), of_impl("config", "ModelConfig")
    return MiniGPT(ModelConfig(**config), "float32", params, autocast=autocast, recompute=recompute)


def ours(autocast: str, recompute: bool) -> Callable[[], float]:
    """A forward and a backward pass of impl."""
    model = model_of(int(CONFIG["n_layers"]), autocast, recompute)
    dropout = of_impl("model.dropout", "Dropout")(RATE, of_impl("rng", "stream_key")(0, "control"), 0)
    batch = of_impl("data.iterator", "Batch")(*inputs("float32", POSITIONS)[1])

    def step() -> float:
        model.zero_gradients()
        loss = model.accumulate(batch, dropout, batch.tokens)
        model.finish_gradients()
        return loss

    return step


def loss_of(config: dict[str, Any], autocast: str, recompute: bool) -> Callable[[], Any]:
    """A forward pass of PyTorch's: (loss, leaves)."""
    params, (tokens, targets, mask, key_mask) = inputs("float32", POSITIONS, config)
    leaves = {name: torch.tensor(x, requires_grad=True) for name, x in params.items()}
    given = [torch.tensor(x) for x in (tokens, targets, mask, key_mask)]
    form = {} if autocast == "none" else {"dtype": getattr(torch, autocast)}

    def forward() -> Any:
        context = torch.autocast("cpu", **form) if form else contextlib.nullcontext()
        with context:
            logits = Blocks(pytorch, leaves, given[3], config, RATE).logits(given[0], recompute)
        return pytorch.token_loss(logits.float(), given[1], given[2]), list(leaves.values())

    return forward


def theirs(autocast: str, recompute: bool) -> Callable[[], float]:
    """A forward and a backward pass of PyTorch's."""
    forward = loss_of(CONFIG, autocast, recompute)

    def step() -> float:
        loss, leaves = forward()
        torch.autograd.grad(loss, leaves)
        return float(loss.detach())

    return step


def saved_bytes(layers: int, autocast: str, recompute: bool) -> int:
    """Bytes of the distinct storages that a forward pass of PyTorch's saves, the leaves left out."""
    forward, seen = loss_of(CONFIG | {"n_layers": layers}, autocast, recompute), {}

    def pack(x: Any) -> Any:
        if not x.is_leaf or not x.requires_grad:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss, _ = forward()
    del loss
    return sum(seen.values())


def multiples(side: Callable[[str, bool], Callable[[], float]]) -> dict[str, np.ndarray]:
    """Way -> quartiles of its time over that of the plain way."""
    steps = {name: side(*way) for name, way in WAYS.items()}
    for step in steps.values():
        step()
    rounds = np.array([[timed(step, TIMES) for step in steps.values()] for _ in range(ROUNDS)])
    relative = rounds / rounds[:, :1]
    return {name: np.percentile(relative[:, i], [25, 50, 75]) for i, name in enumerate(steps)}


def main() -> None:
    """Prints both tables."""
    torch.set_num_threads(1)
    found = {"impl": multiples(ours), "PyTorch": multiples(theirs)}
    print("| way | impl | PyTorch |\n|---|---:|---:|")
    for name in list(WAYS)[1:]:
        cells = [
            f"**{mid:.2f}** ({low:.2f} to {high:.2f})" for low, mid, high in (f[name] for f in found.values())
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print(
        "\n| blocks | impl, kept | impl, recomputed | PyTorch, kept | PyTorch, recomputed |\n|---|---:|---:|---:|---:|"
    )
    for layers in DEPTHS:
        held = [model_of(layers, "none", how).workspace_bytes() for how in (False, True)]
        held += [saved_bytes(layers, "none", how) for how in (False, True)]
        print(f"| {layers} | {' | '.join(f'{x / 2**20:.1f} MiB' for x in held)} |")


if __name__ == "__main__":
    main()
