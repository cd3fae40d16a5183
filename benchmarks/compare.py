"""Training steps side by side: how many times longer each peer takes than impl, in the same process, turn by turn.

python -m benchmarks.compare writes runs/compare.json and docs/performance.md. Peers that are not installed (`make
peers`) are named as such. Compilation is outside. A round times every peer once; a ratio is a median over the rounds.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
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
PAGE, COUNTS = ROOT / "docs" / "performance.md", ROOT / "runs" / "compare.json"
NEEDS = {"impl": "numba", "JAX jit": "jax"}
LENGTH = 32
CASES = tuple((dtype, positions) for dtype in ("float32", "float64") for positions in (128, 512, 1024))
THREADS = (1, 2)
ROUNDS, ROUND_SECONDS = 15, 0.06
AGREE = {"float32": 1e-4, "float64": 1e-6}
"""How far the losses of ten steps may drift apart (nats) before the steps are not the same work."""


def inputs(dtype: str, positions: int) -> tuple[dict[str, Any], Batch]:
    """Weights of a fresh model and one batch without padding, from a seed."""
    random = np.random.default_rng(18)
    params = {
        name: (1.0 if name.endswith("gamma") else 0.02) * np.ones(shape)
        if name.endswith(("gamma", "beta")) or len(shape) == 1
        else 0.02 * random.standard_normal(shape)
        for name, shape in parameter_shapes(CONFIG).items()
    }
    rows = random.integers(5, int(CONFIG["vocab_size"]), (positions // LENGTH, LENGTH + 1))
    mask = np.ones((positions // LENGTH, LENGTH), dtype=bool)
    tokens = rows[:, :-1].copy(), rows[:, 1:].copy()
    return {name: x.astype(dtype) for name, x in params.items()}, (*tokens, mask, mask)


def timed(step: Step, times: int) -> float:
    """Seconds a step."""
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) / times


def measure(dtype: str, positions: int, names: Sequence[str]) -> dict[str, Any]:
    """Per peer: its rounds (seconds a step), the loss of its tenth step, seconds to its first."""
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
                f"{name} does other work than impl: {found[name]['loss']}, {found['impl']['loss']}"
            )
    return found


def child(threads: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """All cases with so many threads, in a process of their own."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = ["taskset", "-c", cores, sys.executable, "-m", "benchmarks.compare", "--child", *names]
    done = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return [case | {"threads": threads} for case in json.loads(done.stdout.splitlines()[-1])]


def table(cases: Sequence[dict[str, Any]]) -> list[str]:
    """A line a case: our time, and every peer's as a multiple of it."""
    names = [name for name in PEERS if name != "impl"]
    lines = [
        f"| dtype | positions | threads | impl, ms | {' | '.join(names)} |",
        f"|---|---:|---:|---:|{'---:|' * len(names)}",
    ]
    for case in cases:
        ours = case["peers"]["impl"]["rounds"]
        cells = [ratio(case["peers"].get(name), ours) for name in names]
        where = f"{case['dtype']} | {case['positions']} | {case['threads']}"
        lines.append(f"| {where} | {1e3 * statistics.median(ours):.2f} | {' | '.join(cells)} |")
    return lines


def ratio(peer: dict[str, Any] | None, ours: Sequence[float]) -> str:
    """Median and quartiles of peer / impl over the rounds."""
    if peer is None:
        return "not installed"
    low, middle, high = statistics.quantiles([a / b for a, b in zip(peer["rounds"], ours, strict=True)])
    return f"**{middle:.2f}x** ({low:.2f} to {high:.2f})"


def page(cases: Sequence[dict[str, Any]]) -> str:
    """docs/performance.md."""
    lines = [
        "# Speed",
        "",
        "`python -m benchmarks.compare` (after `make peers`) measures all of this again and writes this page. The",
        "same model, weights and batch, no dropout, clipping and AdamW included; every peer takes its turn in each",
        f"of {ROUNDS} rounds of one process, pinned to as many cores as it has threads. A multiple is a peer's time",
        "over impl's: the median of the rounds, with quartiles. Above 1 impl is faster.",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {cpu()}.",
        "",
        *table(cases),
    ]
    return "\n".join(lines) + "\n"


def cpu() -> str:
    """What the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main(arguments: Sequence[str] | None = None) -> int:
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
    COUNTS.parent.mkdir(exist_ok=True)
    COUNTS.write_text(json.dumps(cases, indent=1), encoding="utf-8")
    PAGE.write_text(page(cases), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
