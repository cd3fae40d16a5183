"""Drift beyond rounded weights: 16-bit autocast in forward and backward pass, and weights of 8 bits.

    gradients   of one batch in float64 arithmetic: those under autocast against those without, by layer, as
                ||d - d_exact|| / ||d_exact||; and how many of the exact ones the format would lose (a nonzero number
                that rounds to 0) or could not hold (infinity), without a loss scale and with 2^16
    weights     what rounding them to an 8-bit format does to each layer's output, as drift.py measures 16 bits; how
                many become 0, and how many leave the format

Sources: Micikevicius et al. 2018, figure 3 (gradients that are lost); Micikevicius et al. 2022 (8-bit formats).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from impl.data.iterator import make_batch
from impl.model.dropout import NO_DROPOUT
from impl.model.minigpt import MiniGPT
from impl.report import plots
from impl.report.drift import FLOAT8, FORMATS, layer_outputs, relative_error, round_float8, round_weights
from impl.run.directory import Run
from impl.run.files import write_json

Array = np.ndarray[Any, np.dtype[Any]]
SEQUENCES = 64
"""Of the validation split, in the batch whose gradients are compared."""
LOSS_SCALES = (1.0, 2.0**16)


def measure(model: MiniGPT, run: Run) -> dict[str, Any]:
    """Everything above, of a float64 model, as JSON holds it; numbers that are not finite are null."""
    sequences = run.sequences["val"]
    exact_gradients, exact_outputs = gradients(model, sequences, "none"), layer_outputs(model, sequences)
    found: dict[str, Any] = {"gradients": {}, "weights": {}}
    for form in FORMATS:
        drifted = gradients(model, sequences, form)
        found["gradients"][form] = {
            "relative_error": {
                layer: relative_error(drifted[layer], x) for layer, x in exact_gradients.items()
            },
            "lost": {f"{scale:g}": losses(exact_gradients, form, scale) for scale in LOSS_SCALES},
        }
    for form in FLOAT8:
        weights = {name: round_float8(x, form) for name, x in model.parameters.items()}
        outputs = layer_outputs(MiniGPT(model.config, "float64", weights), sequences)
        errors = {layer: relative_error(outputs[layer], x) for layer, x in exact_outputs.items()}
        found["weights"][form] = {
            "relative_error": {
                layer: error if math.isfinite(error) else None for layer, error in errors.items()
            },
            **counts(model.flat_parameters, functools.partial(round_float8, format_name=form)),
        }
    return found


def gradients(model: MiniGPT, sequences: list[list[int]], autocast: str) -> dict[str, Array]:
    """Layer -> the gradients of its parameters, one after the other, of the mean loss of a batch, in float64."""
    batch = make_batch(sequences[:SEQUENCES])
    cast = MiniGPT(model.config, "float64", model.parameters, autocast=autocast)
    cast.accumulate(batch, NO_DROPOUT, batch.tokens)
    cast.finish_gradients()
    parts: dict[str, list[Array]] = {}
    for name, g in cast.gradients.items():
        parts.setdefault(name.split(".")[0], []).append(g.reshape(-1).copy())
    return {layer: np.concatenate(flat) for layer, flat in parts.items()}


def losses(exact: dict[str, Array], form: str, scale: float) -> dict[str, dict[str, int]]:
    """Layer -> how many of its gradients the format loses or cannot hold at this loss scale."""
    return {
        layer: counts(g * scale, functools.partial(round_weights, format_name=form))
        for layer, g in exact.items()
    }


def counts(x: Array, rounded: Callable[[Array], Array]) -> dict[str, int]:
    """How many of the numbers [n] become 0, and how many are beyond the format."""
    y = rounded(x)
    return {"underflow": int(((y == 0) & (x != 0)).sum()), "overflow": int((~np.isfinite(y)).sum())}


def write(folder: Path, measured: dict[str, Any]) -> None:
    """precision_results.json, and gradient_drift_per_layer.png beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "precision_results.json", measured)
    if plots.wanted():
        errors = {form: found["relative_error"] for form, found in measured["gradients"].items()}
        layers = list(next(iter(errors.values())))
        plots.gradient_drift(layers, errors, folder / "gradient_drift_per_layer.png")
