"""Training steps of impl and its peers, timed in alternation in one process.

python -m benchmarks.compare writes runs/compare.json, which benchmarks/page.py turns into a part of
docs/performance.md. Compilation is not timed. Each round times every peer once. Each number of threads has a process of
its own, pinned to as many cores.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import CONFIG, PEERS, Batch, Step
from reference.model import parameter_shapes

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "runs" / "compare.json"
NEEDS = {"impl": "numba", "JAX jit": "jax"}
LENGTH = 32
CASES = tuple((dtype, positions) for dtype in ("float32", "float64") for positions in (128, 512, 1024))
THREADS = (1, 2)
ROUNDS, ROUND_SECONDS = 15, 0.06
AGREE = {"float32": 1e-4, "float64": 1e-6}
"""Largest difference of the losses of the tenth step (nats) at which two peers count as doing the same work."""


def inputs(dtype: str, positions: int, config: dict[str, Any] = CONFIG) -> tuple[dict[str, Any], Batch]:
    """Parameters of a new model and one batch without padding, both from a fixed seed."""
    random = np.random.default_rng(18)
    params = {
        name: 0.02 * (random.standard_normal(shape) if len(shape) == 2 else np.ones(shape))
        for name, shape in parameter_shapes(config).items()
    }
    params |= {name: np.ones(x.shape) for name, x in params.items() if name.endswith("gamma")}
    rows = random.integers(5, int(config["vocab_size"]), (positions // LENGTH, LENGTH + 1))
    mask = np.ones((positions // LENGTH, LENGTH), dtype=bool)
    tokens = rows[:, :-1].copy(), rows[:, 1:].copy()
    return {name: x.astype(dtype) for name, x in params.items()}, (*tokens, mask, mask)


def timed(step: Step, times: int) -> float:
    """Mean seconds per step."""
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) / times


def measure(dtype: str, positions: int, names: Sequence[str]) -> dict[str, Any]:
    """Of each peer: rounds (seconds per step), the loss of its tenth step, the seconds until its first step has ended.

    RuntimeError if a loss differs from impl's by more than `AGREE`.
    """
    found: dict[str, Any] = {}
    steps, often = {}, {}
    for name in names:
        began = time.perf_counter()
        steps[name] = PEERS[name](*inputs(dtype, positions))
        steps[name]()
        first = time.perf_counter() - began
        losses = [steps[name]() for _ in range(9)]
        often[name] = max(1, int(ROUND_SECONDS / timed(steps[name], 3)))
        found[name] = {"first_step": first, "loss": losses[-1], "rounds": []}
    for _ in range(ROUNDS):
        for name in names:
            found[name]["rounds"].append(timed(steps[name], often[name]))
    for name in names:
        if abs(found[name]["loss"] - found["impl"]["loss"]) > AGREE[dtype]:
            raise RuntimeError(
                f"{name} computes another loss than impl: {found[name]['loss']}, {found['impl']['loss']}"
            )
    return found


def child(threads: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """All cases with this number of threads, measured in a process of their own."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = ["taskset", "-c", cores, sys.executable, "-m", f"{__package__}.compare", "--child", *names]
    done = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return [case | {"threads": threads} for case in json.loads(done.stdout.splitlines()[-1])]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; --child measures with the threads that its environment sets, and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        measured = [
            {"dtype": dtype, "positions": positions, "peers": measure(dtype, positions, options.child)}
            for dtype, positions in CASES
        ]
        print(json.dumps(measured))
        return 0
    names = [name for name in PEERS if importlib.util.find_spec(NEEDS.get(name, "torch"))]
    cases = [case for threads in THREADS for case in child(threads, names)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(cases, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
