"""Two pictures, drawn by Matplotlib unless HONESTLOOP_PLOTS is off."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch_phase18.files import write_atomically


def wanted() -> bool:
    """Whether pictures are drawn."""
    return os.environ.get("HONESTLOOP_PLOTS", "").lower() != "off"


def losses(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Training and validation loss by step."""
    evaluated = [line for line in lines if "val_loss" in line]
    curves = {
        "train": ([line["step"] for line in lines], [line["loss"] for line in lines]),
        "validation": ([line["step"] for line in evaluated], [line["val_loss"] for line in evaluated]),
    }
    _draw(curves, path, ylabel="loss (nats a token)", xlabel="step")


def drift(layers: Sequence[str], errors: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Relative error of each layer, one line a format."""
    curves = {form: (list(layers), [found[layer] for layer in layers]) for form, found in errors.items()}
    _draw(curves, path, ylabel="relative error", yscale="log")


def _draw(curves: Mapping[str, tuple[list[Any], list[float]]], path: Path, **axes: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5))
    plot = figure.add_subplot(**axes)
    for name, (x, y) in curves.items():
        plot.plot(x, y, label=name)
    plot.legend()
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)
    write_atomically(path, image.getvalue())
