"""docs/performance.md and its plots, from the measurements of benchmarks/compare.py, kernels.py and scaling.py.

python -m benchmarks.page runs them (about ten minutes) and writes the page; --from-runs uses the files in runs/.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.kernels import ITEM_ROWS
from benchmarks.peers import PEERS

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance"
MEASURED = ("compare", "kernels", "scaling")
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee")  # Tol 2021, "bright"
Rounds = Sequence[float]
Row = dict[str, Any]


def median_of(above: Rounds, below: Rounds) -> float:
    """Median of the ratio over the rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def spread(above: Rounds, below: Rounds) -> str:
    """Median and quartiles of a ratio over the rounds."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(above, below, strict=True)])
    return f"**{middle:.2f}** ({low:.2f} to {high:.2f})"


# ---- steps


def steps(cases: Sequence[Row]) -> list[str]:
    """A row for each case: every peer's time as a multiple of impl's."""
    names = [name for name in PEERS if name != "impl"]
    lines = [
        f"| dtype | positions | threads | {' | '.join(names)} |",
        f"|---|---:|---:|{'---:|' * len(names)}",
    ]
    for case in cases:
        ours = case["peers"]["impl"]["rounds"]
        peers = [case["peers"].get(name) for name in names]
        cells = [spread(peer["rounds"], ours) if peer else "not installed" for peer in peers]
        lines.append(f"| {case['dtype']} | {case['positions']} | {case['threads']} | {' | '.join(cells)} |")
    return lines


def bars(cases: Sequence[Row]) -> Figure:
    """A bar chart of every peer's time at 512 positions, as a multiple of impl's."""
    chosen = [case for case in cases if case["positions"] == 512]
    names = [name for name in PEERS if name != "impl" and name in chosen[0]["peers"]]
    figure, axes = canvas(1)
    for n, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        places = [k + (n - (len(names) - 1) / 2) / (len(names) + 1) for k in range(len(chosen))]
        heights = [median_of(c["peers"][name]["rounds"], c["peers"]["impl"]["rounds"]) for c in chosen]
        axes[0].bar(places, heights, width=1 / (len(names) + 1), color=colour, label=name)
    axes[0].axhline(1.0, color="black", linewidth=0.8)
    axes[0].set_xticks(range(len(chosen)), [f"{c['dtype']}, {c['threads']} threads" for c in chosen])
    axes[0].set_ylabel("time / impl's")
    axes[0].set_title("A training step over 512 positions")
    axes[0].legend()
    return figure


# ---- kernels


def kernels(rows: Sequence[Row]) -> list[str]:
    """A row for each kernel: PyTorch's time as a multiple of impl's; impl's share of the machine's peaks."""
    lines = [
        "| dtype | kernel | PyTorch | share of peak FLOP/s | share of copy bandwidth |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        peer = spread(row["torch"], row["ours"]) if "torch" in row else ""
        arithmetic = f"{share_of_peak(row, row['ours']):.0%}" if row["flops"] else ""
        copy = f"{median_of(row['copy'], row['ours']):.0%}"
        lines.append(f"| {row['dtype']} | {row['name']} | {peer} | {arithmetic} | {copy} |")
    return lines


def share_of_peak(row: Row, seconds: Rounds) -> float:
    """Median over the rounds of the FLOP/s reached, as a fraction of the peak."""
    return statistics.median(row["flops"] / t / p for t, p in zip(seconds, row["peak"], strict=True))


def roofline(rows: Sequence[Row]) -> Figure:
    """The roofline model of the matrix products (Williams, Waterman, Patterson, 2009)."""
    figure, axes = canvas(2)
    for panel, dtype in zip(axes, ("float32", "float64"), strict=True):
        products = [row for row in rows if row["dtype"] == dtype and row["flops"]]
        peak = statistics.median(p for row in products for p in row["peak"])
        bandwidth = statistics.median(row["traffic"] / t for row in products for t in row["copy"])
        intensities = [2.0**k for k in range(-2, 8)]
        panel.loglog(intensities, [min(peak, x * bandwidth) / 1e9 for x in intensities], color="black")
        for row, marker in zip(products, itertools.cycle("os^vD*"), strict=False):
            rate = row["flops"] / statistics.median(row["ours"]) / 1e9
            style = {"label": row["name"], "fillstyle": "full" if "work item" in row["name"] else "none"}
            panel.plot(row["flops"] / row["traffic"], rate, marker, color=COLOURS[0], **style)
        panel.set_xlabel("FLOP a byte")
        panel.set_title(f"{dtype}, one thread")
    axes[0].set_ylabel("GFLOP/s")
    axes[0].legend(fontsize=7)
    return figure


# ---- scaling


def scaling(axes: dict[str, dict[str, Row]]) -> list[str]:
    """A row for each point of each axis."""
    lines = [
        "| axis | value | time a position and parameter / first row's | PyTorch | share of peak FLOP/s | PyTorch's |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for axis, points in axes.items():
        first = next(iter(points.values()))
        for value, row in points.items():
            cost = cost_of(row) / cost_of(first)
            peer = spread(row["PyTorch"], row["impl"]) if "PyTorch" in row else "not installed"
            theirs = f"{share_of_peak(row, row['PyTorch']):.0%}" if "PyTorch" in row else ""
            ours = f"{share_of_peak(row, row['impl']):.0%}"
            lines.append(f"| {axis} | {value} | {cost:.2f} | {peer} | {ours} | {theirs} |")
    return lines


def cost_of(row: Row) -> float:
    """impl's seconds per FLOP."""
    return statistics.median(row["impl"]) / float(row["flops"])


def growth(axes: dict[str, dict[str, Row]]) -> Figure:
    """Time per step along each axis, relative to impl's first point; the dashed line is linear in FLOP."""
    figure, panels = canvas(len(axes))
    for panel, (axis, points) in zip(panels, axes.items(), strict=True):
        values = [int(value) for value in points]
        rows = list(points.values())
        unit = statistics.median(rows[0]["impl"])
        for name, colour in zip(("impl", "PyTorch"), COLOURS, strict=False):
            if name in rows[0]:
                times = [statistics.median(row[name]) / unit for row in rows]
                panel.loglog(values, times, "o-", color=colour, label=name, base=2)
        linear = [row["flops"] / rows[0]["flops"] for row in rows]
        panel.loglog(values, linear, "--", color="grey", label="linear in FLOP", base=2)
        panel.set_xlabel(axis)
        panel.set_xticks(values, [str(value) for value in values])
    panels[0].set_ylabel("time a step / impl's first")
    panels[0].legend()
    return figure


def memory(peaks: dict[str, dict[str, Row]]) -> list[str]:
    """A row for each peer and width."""
    lines = ["| trained by | d_model | MiB more than a tiny model | MiB in all |", "|---|---:|---:|---:|"]
    for name, widths in peaks.items():
        for width, peak in widths.items():
            more, whole = (x / 2**20 for x in (peak["steps"] - peak["little"], peak["steps"]))
            lines.append(f"| {name} | {width} | {more:.0f} | {whole:.0f} |")
    return lines


# ---- the page


def canvas(panels: int) -> tuple[Figure, Any]:
    """A figure with this many axes side by side."""
    figure = Figure(figsize=(4.2 * panels if panels > 1 else 8, 4.2), dpi=90, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def cpu() -> str:
    """The processor's model name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


TEMPLATE = """\
# Speed

`make performance` measures all of this again, some ten minutes, and writes this page. A multiple is a peer's time over
impl's in the same round of one process: the median of the rounds, with quartiles. Above 1 impl is faster. Compilation
is outside. The machine was shared: absolute times would say little.
{machine}

## A training step

The same model, weights and batch, no dropout, clipping and AdamW included; pinned to as many cores as there are
threads (`python -m benchmarks.compare`).

![a training step](performance/steps.png)

{steps}

## Kernels

At the sizes of a step over 512 positions, one thread (`python -m benchmarks.kernels`). The peak is of fused
multiply-adds in registers, the copy one of as many bytes as the kernel must move. PyTorch's GELU and cross-entropy are
forward and backward pass, as our kernels give both. A step multiplies matrices a work item of {rows} rows at a time at
most, which stays in a core's cache; the products of all rows at once are beside them.

![roofline](performance/roofline.png)

{kernels}

## How the cost grows

float32, all threads, one axis at a time from the default model at 512 positions, heads of 16
(`python -m benchmarks.scaling`). FLOP are those of the products with matrices, six a parameter and position; below 1 in
the third column the cost grows less than they do. The peak is what all threads did in registers in the same round, on
average over as long as the steps took. PyTorch is eager, with its fused AdamW.

![growth](performance/growth.png)

{scaling}

## Memory

Peak resident memory of a process that trains on 512 positions, five steps; and how much more that is than of one that
trains a model of width 16 on 32 positions, with the same imports.

{memory}
"""


def page(compared: list[Row], timed: list[Row], scaled: Row) -> str:
    """docs/performance.md."""
    peaks = [
        f"{statistics.median(p for row in timed if row['dtype'] == dtype for p in row['peak']) / 1e9:.0f}"
        for dtype in ("float32", "float64")
    ]
    machine = (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {cpu()}; one of them did {peaks[0]}"
    )
    parts = {
        "steps": steps(compared),
        "kernels": kernels(timed),
        "scaling": scaling(scaled["axes"]),
        "memory": memory(scaled["memory"]),
    }
    text = {name: "\n".join(lines) for name, lines in parts.items()}
    return TEMPLATE.format(
        rows=ITEM_ROWS,
        machine=f"{machine} GFLOP/s in float32 and {peaks[1]} in float64, in registers.",
        **text,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("--from-runs", action="store_true", help="do not measure; take the files in runs/")
    if not parser.parse_args(arguments).from_runs:
        for name in MEASURED:
            subprocess.run([sys.executable, "-m", f"{__package__}.{name}"], cwd=ROOT, check=True)
    compared, timed, scaled = (json.loads((ROOT / "runs" / f"{name}.json").read_bytes()) for name in MEASURED)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "steps": bars(compared),
        "roofline": roofline(timed),
        "growth": growth(scaled["axes"]),
    }.items():
        figure.savefig(PICTURES / f"{name}.png", metadata={"Software": None})
    PAGE.write_text(page(compared, timed, scaled), encoding="utf-8")


if __name__ == "__main__":
    main()
