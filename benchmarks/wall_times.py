"""Wall times of the commands that users run, and of their parts; writes docs/timings.md.

python -m benchmarks.wall_times
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "timings.md"
Row = tuple[str, str, float, list[float]]
"""(what, target of a warm run, seconds of a cold run, seconds of warm runs)."""


def seconds(*command: str, cache: Path) -> float:
    """Wall time of a command from the repository root. CalledProcessError unless its status is 0."""
    store = f"sqlite:///{cache.parent / 'mlflow.db'}"
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "MLFLOW_TRACKING_URI": store}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # so that bytecode is cached, as by default
    began = time.monotonic()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def measure(cache: Path, runs: Path, repeats: int) -> tuple[list[Row], dict[str, float], dict[str, float]]:
    """The rows, and the parts of a warm training run and of warm gates, in seconds.

    A cold run compiles all kernels into an empty cache, and a warm run finds them there.
    """
    python = (sys.executable, "-m")
    last, report = runs / "last", runs / "gates.xml"
    steps: list[float] = []

    def train() -> float:
        shutil.rmtree(last, ignore_errors=True)
        whole = seconds(*python, "impl", "train", "--out", str(last), cache=cache)
        steps.append(json.loads((last / "results.json").read_bytes())["wall_seconds"])
        return whole

    def suite(folder: str, *options: str) -> float:
        return seconds(*python, "pytest", "-q", folder, *options, cache=cache)

    rows = []
    for what, limit, call in (
        ("training to the gate, tracked by MLflow, with plots and drift", "", train),
        ("`pytest properties/` (profile dev)", "15 s", lambda: suite("properties/")),
        ("`pytest gates/`", "45 s", lambda: suite("gates/", f"--junitxml={report}")),
    ):
        shutil.rmtree(cache, ignore_errors=True)
        cold = call()
        rows.append((what, limit, cold, [call() for _ in range(repeats)]))
        print(rows[-1], flush=True)
    rows.insert(1, ("its 600 steps, with evaluations and checkpoints", "2 s", steps[0], steps[1:]))
    imports = min(seconds(*python, "impl", "--help", cache=cache) for _ in range(repeats))
    parts = {"start and imports": imports, "600 steps": median(steps[1:])}
    rest = median(rows[0][3]) - sum(parts.values())
    return rows, parts | {"corpus, baselines, drift, plots, MLflow": rest}, gate_parts(report)


def gate_parts(report: Path) -> dict[str, float]:
    """Seconds in the tests of each gate, from JUnit XML. Training runs go on in the background of the tests."""
    parts: dict[str, float] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2].removeprefix("test_")
        parts[name] = parts.get(name, 0.0) + float(case.get("time", 0.0))
    return parts


def table(rows: list[Row], training: dict[str, float], gates: dict[str, float]) -> str:
    """docs/timings.md."""
    repeats = len(rows[0][3])
    lines = [
        "# Wall times",
        "",
        f"`python -m benchmarks.wall_times --repeats {repeats}`: whole processes, start and imports included. Cold: no",
        f"kernel is compiled yet. Warm: all are; {repeats} runs. What compiling takes is the difference.",
        f"Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "| what | aim, warm | warm, median | warm, fastest to slowest | cold |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for what, limit, cold, warm in rows:
        digits = 2 if median(warm) < 10.0 else 1
        middle, low, high = (f"{x:.{digits}f}" for x in (median(warm), min(warm), max(warm)))
        lines.append(f"| {what} | {limit} | {middle} s | {low} to {high} s | {cold:.1f} s |")
    lines += ["", "| a warm training | |", "| --- | ---: |"]
    lines += [f"| {name} | {time:.1f} s |" for name, time in training.items()]
    lines += ["", "| warm gates, waiting and recomputing in the tests of | |", "| --- | ---: |"]
    lines += [f"| {name} | {time:.1f} s |" for name, time in gates.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wall_times", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="warm runs of each (default 3)")
    repeats = max(1, parser.parse_args().repeats)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder) / "cache", Path(folder), repeats)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(table(*measured), encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
