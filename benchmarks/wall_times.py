"""Wall times that a user waits for, as whole processes; writes docs/timings.md.

python -m benchmarks.wall_times
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "timings.md"


def seconds(*command: str, cache: Path) -> float:
    """Wall time of a command from the repository root. CalledProcessError unless its status is 0."""
    store = f"sqlite:///{cache.parent / 'mlflow.db'}"
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "MLFLOW_TRACKING_URI": store}
    began = time.monotonic()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def measure(cache: Path, runs: Path, repeats: int) -> list[tuple[str, str, float, list[float]]]:
    """(what, limit, cold, warm): cold compiles all kernels into an empty cache, warm finds them there."""
    python = (sys.executable, "-m")
    numbers = iter(range(1000))

    def train(*options: str) -> float:
        out = str(runs / f"run-{next(numbers)}")
        return seconds(*python, "impl", "train", "--out", out, *options, cache=cache)

    def suite(folder: str) -> float:
        return seconds(*python, "pytest", "-q", folder, cache=cache)

    rows = []
    for what, limit, call in (
        ("training to the gate, 600 steps, tracked by MLflow, with plots and drift", "10 s", train),
        ("`pytest properties/` (profile dev)", "30 s", lambda: suite("properties/")),
        ("`pytest gates/`", "90 s", lambda: suite("gates/")),
    ):
        shutil.rmtree(cache, ignore_errors=True)
        cold = call()
        rows.append((what, limit, cold, [call() for _ in range(repeats)]))
        print(rows[-1], flush=True)
    return rows


def table(rows: list[tuple[str, str, float, list[float]]]) -> str:
    """Markdown."""
    repeats = len(rows[0][3])
    lines = [
        "# Wall times",
        "",
        f"`python -m benchmarks.wall_times --repeats {repeats}`: whole processes, start and imports included. Cold: no",
        f"kernel is compiled yet. Warm: all are; {repeats} runs.",
        f"Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "| what | limit, warm | warm, median | warm, fastest to slowest | cold |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for what, limit, cold, warm in rows:
        low, median, high = min(warm), sorted(warm)[len(warm) // 2], max(warm)
        lines.append(f"| {what} | {limit} | {median:.1f} s | {low:.1f} to {high:.1f} s | {cold:.1f} s |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wall_times", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="warm runs of each (default 3)")
    repeats = max(1, parser.parse_args().repeats)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder) / "cache", Path(folder) / "runs", repeats)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(table(rows), encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
