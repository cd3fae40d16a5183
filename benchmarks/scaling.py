"""How time and memory of a training step grow with batch, width and layers, for impl and PyTorch.

python -m benchmarks.scaling writes runs/scaling.json, which benchmarks/page.py turns into a part of
docs/performance.md. All threads are used. Each round times impl, PyTorch (eager, fused AdamW) and peak arithmetic in
turn.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.compare import LENGTH, inputs, timed
from benchmarks.peers import CONFIG, Step, ours, pytorch
from reference.model import parameter_shapes

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "runs" / "scaling.json"
ROUNDS, ROUND_SECONDS = 9, 0.1
DTYPE, POSITIONS = "float32", 512
MEMORY_STEPS = 5
MAKERS = {"impl": ours, "PyTorch": lambda *args: pytorch(*args, fused=True)}


def wide(width: int) -> dict[str, Any]:
    """The default model with d_model = width, heads of size 16 and d_ff = 4 width."""
    return CONFIG | {"d_model": width, "n_heads": width // 16, "d_ff": 4 * width}


AXES = {
    "positions": {n: (CONFIG, n) for n in (64, 128, 256, 512, 1024, 2048, 4096)},
    "d_model": {d: (wide(d), POSITIONS) for d in (64, 128, 256, 512)},
    "layers": {n: (CONFIG | {"n_layers": n}, POSITIONS) for n in (1, 2, 4, 8)},
}


def operations(config: dict[str, Any], positions: int) -> int:
    """FLOP of the matrix products of a step with its parameters: per position and parameter 2 forward, 4 backward.

    Products within attention are not counted.
    """
    shapes = parameter_shapes(config).values()
    return 6 * positions * sum(shape[0] * shape[1] for shape in shapes if len(shape) == 2)


def steps(names: list[str], config: dict[str, Any], positions: int) -> dict[str, Step]:
    """The training step of each peer."""
    return {name: MAKERS[name](*inputs(DTYPE, positions, config), config) for name in names}


def measure(names: list[str], config: dict[str, Any], positions: int) -> dict[str, Any]:
    """Of each round: seconds per step of each peer, and FLOP/s in registers on all threads over the same time."""
    calls = steps(names, config, positions)
    threads = len(os.sched_getaffinity(0))
    often = {}
    for name, step in calls.items():
        step()
        often[name] = max(1, int(ROUND_SECONDS / timed(step, 2)))
    found: dict[str, Any] = {name: [] for name in (*names, "peak")}
    for _ in range(ROUNDS):
        for name, step in calls.items():
            found[name].append(timed(step, often[name]))
        longest = max(found[name][-1] * often[name] for name in calls)
        found["peak"].append(machine.sustained(DTYPE, threads, longest))
    return found | {"flops": operations(config, positions)}


def memory(name: str, width: int) -> dict[str, int]:
    """Peak resident bytes of a process that trains ("steps"), and of one with the same imports and a tiny model."""
    peaks = {}
    for what in ("little", "steps"):
        command = [sys.executable, "-m", f"{__package__}.scaling", "--memory", what, name, str(width)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        peaks[what] = int(done.stdout.split()[-1])
    return peaks


def memory_child(what: str, name: str, width: int) -> None:
    """Train a few steps and print the peak resident bytes of this process."""
    config = wide(width) if what == "steps" else wide(16)
    positions = POSITIONS if what == "steps" else LENGTH
    (step,) = steps([name], config, positions).values()
    for _ in range(MEMORY_STEPS):
        step()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) * 1024)  # unlike this, ru_maxrss is inherited from the parent


def main() -> None:
    """Measure everything, or with --memory the peak memory of this process."""
    if sys.argv[1:2] == ["--memory"]:
        memory_child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    names = ["impl", *(["PyTorch"] if importlib.util.find_spec("torch") else [])]
    began = time.perf_counter()
    axes = {
        axis: {str(value): measure(names, *case) for value, case in cases.items()}
        for axis, cases in AXES.items()
    }
    peaks = {name: {str(width): memory(name, width) for width in (64, 512)} for name in names}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"axes": axes, "memory": peaks}, indent=1), encoding="utf-8")
    print(f"{OUT.relative_to(ROOT)}, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
