"""The two pictures of a run, as PNG. Equal numbers give equal bytes: no date, no version, no global state."""

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impl.run.files import atomic_write
from pages.run_parts import RATIO_LIMIT

if TYPE_CHECKING:  # importing Matplotlib takes a second, which a training without a plot need not spend
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#4477aa", "#ee6677", "#228833")  # told apart with any colour vision (Tol 2021, "bright")


def wanted() -> bool:
    """Whether a run draws its pictures and its page: HONESTLOOP_PLOTS=off saves the second that Matplotlib takes."""
    return os.environ.get("HONESTLOOP_PLOTS", "").lower() != "off"


def loss_curve(log: Path, strongest_baseline: Mapping[str, Any], path: Path) -> None:
    """Training and validation loss in nats a token, from train_log.jsonl.

    Horizontal lines: the strongest n-gram, and the share of its perplexity that the definition of done allows.
    """
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    evaluated = [record for record in records if "val_loss" in record]
    perplexity = strongest_baseline["val"]["ppl"]
    name = strongest_baseline["kind"].replace("_", "-")
    figure, axes = _figure()
    axes.plot(
        _column(records, "step"), _column(records, "loss"), color=_COLOURS[0], linewidth=0.8, label="train"
    )
    axes.plot(
        _column(evaluated, "step"),
        _column(evaluated, "val_loss"),
        "o-",
        color=_COLOURS[1],
        label="validation",
    )
    lines = {
        "--": (
            perplexity,
            f"{name} {strongest_baseline['n']}-gram, perplexity {perplexity:.3f} on validation",
        ),
        ":": (RATIO_LIMIT * perplexity, f"{RATIO_LIMIT} times that: validation must end below"),
    }
    for style, (at, label) in lines.items():
        axes.axhline(math.log(at), color=_COLOURS[2], linestyle=style, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.set_title("Loss")
    _save(figure, axes, path)


def drift_per_layer(
    layers: Sequence[str], relative_error: Mapping[str, Mapping[str, float]], path: Path
) -> None:
    """Relative error of each layer's output, one line a number format, logarithmic.

    Only the weights are rounded to that format; activations stay float64, which the title says.
    """
    figure, axes = _figure()
    for (name, errors), colour in zip(relative_error.items(), _COLOURS, strict=False):
        axes.plot(layers, [errors[layer] for layer in layers], "o-", color=colour, label=name)
    axes.set_yscale("log")
    axes.set_ylabel("relative error (lower is better)")
    axes.set_title("Drift of layer outputs: only weights are rounded, activations stay float64")
    _save(figure, axes, path)


def gradient_drift(
    layers: Sequence[str], relative_error: Mapping[str, Mapping[str, float]], path: Path
) -> None:
    """Relative error of the gradients of each layer's parameters under autocast, one line a format, logarithmic."""
    figure, axes = _figure()
    for (name, errors), colour in zip(relative_error.items(), _COLOURS, strict=False):
        axes.plot(layers, [errors[layer] for layer in layers], "o-", color=colour, label=name)
    axes.set_yscale("log")
    axes.set_ylabel("relative error (lower is better)")
    axes.set_title("Drift of gradients under autocast: operands and results of products are rounded")
    _save(figure, axes, path)


def _column(records: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [record[name] for record in records]


def _figure() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=100)
    # Fixed margins: a layout engine would take longer than the drawing.
    return figure, figure.add_axes((0.12, 0.12, 0.85, 0.80))


def _save(figure: "Figure", axes: "Axes", path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    axes.grid(alpha=0.3)
    axes.legend()
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image, metadata={"Software": None})
    atomic_write(path, image.getvalue())
