"""An update of the model's matrices by Muon: impl's kernels, and torch.optim.Muon on one thread and on all.

`python -m benchmarks.muon` prints milliseconds, the best of many rounds, taken in turn.
"""

import importlib
import time
from collections.abc import Callable

import numpy as np
import torch

from honestloop.suite_location import in_suite
from reference.model import parameter_shapes

CONFIG = {"d_model": 64, "n_heads": 4, "n_layers": 2, "d_ff": 256, "vocab_size": 64, "context": 32}
ROUNDS = 200


def by_impl() -> Callable[[], object]:
    """An update of all parameters: the matrices by Muon, the others by AdamW."""
    config = importlib.import_module(in_suite("impl.config"))
    optim = importlib.import_module(in_suite("impl.optim.muon"))
    shapes = parameter_shapes(CONFIG)
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    parameters, gradients = np.random.default_rng(0).standard_normal((2, size)).astype(np.float32)
    settings = config.OptimizerConfig(), config.MuonConfig(enabled=True)
    optimizer = optim.Muon(shapes, "float32", *settings, 10**6)
    return lambda: optimizer.update(parameters, gradients, 1e-3)


def by_torch() -> Callable[[], object]:
    """torch.optim.Muon of the same matrices, and nothing of the other parameters."""
    shapes = [shape for name, shape in parameter_shapes(CONFIG).items() if ".W_" in name]
    rng = np.random.default_rng(0)
    matrices = [torch.nn.Parameter(torch.tensor(rng.standard_normal(s).astype(np.float32))) for s in shapes]
    for matrix in matrices:
        matrix.grad = torch.tensor(rng.standard_normal(matrix.shape).astype(np.float32))
    optimizer = torch.optim.Muon(matrices, lr=1e-3)
    return optimizer.step


def timed(update: Callable[[], object]) -> float:
    """Seconds of one update."""
    began = time.perf_counter()
    update()
    return time.perf_counter() - began


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Name -> the fewest seconds of an update, the three taken in turn."""
    every, ours, theirs = torch.get_num_threads(), by_impl(), by_torch()
    found: dict[str, list[float]] = {"impl": [], "torch, 1 thread": [], f"torch, {every} threads": []}
    for _ in range(rounds):
        found["impl"].append(timed(ours))
        for name, threads in zip(list(found)[1:], (1, every), strict=True):
            torch.set_num_threads(threads)
            found[name].append(timed(theirs))
    torch.set_num_threads(every)
    return {name: min(times[rounds // 10 :]) for name, times in found.items()}


if __name__ == "__main__":
    for who, seconds in measure().items():
        print(f"{who:20} {1e3 * seconds:8.2f} ms")
