"""How far each layer's output moves when the weights are rounded to float16 or bfloat16.

Only the weights are rounded: the forward pass runs in float64, so what is measured is the format's resolution and
range, not the arithmetic of a device.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from impl.data.iterator import make_batch
from impl.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from impl.kernels.reduce import sum_squares
from impl.model.minigpt import MiniGPT
from impl.report import plots
from impl.run.directory import Run
from impl.run.files import atomic_write, write_json

if TYPE_CHECKING:  # importing jaxtyping would lengthen the start-up
    from jaxtyping import Float

Array = np.ndarray[Any, np.dtype[Any]]

_SEQUENCES_AT_ONCE = 128

ROUNDED = "Only the weights are rounded; activations stay float64."
"""What each part of the report says of itself."""


@dataclass(frozen=True)
class Format:
    """A binary floating-point format (IEEE 754-2019, section 3.3): p bits of significand, exponents emin to emax."""

    precision: int
    emin: int
    emax: int


FORMATS = {"float16": Format(11, -14, 15), "bfloat16": Format(8, -126, 127)}


def round_weights(x: Float[np.ndarray, " ..."], format_name: str) -> Float[np.ndarray, " ..."]:
    """The nearest values of a format, ties to even, in the dtype of `x`; beyond its range, infinity.

    x = m 2^e with 1/2 <= |m| < 1, so the format's spacing at x is 2^(e-p), or 2^(emin+1-p) among its subnormals.
    """
    to = FORMATS[format_name]
    _, exponent = np.frexp(x)
    spacing = np.maximum(exponent, to.emin + 1) - to.precision
    largest = (2.0 - 2.0 ** (1 - to.precision)) * 2.0**to.emax
    with np.errstate(over="ignore"):
        rounded = np.ldexp(np.rint(np.ldexp(x, -spacing)), spacing)
    return np.where(np.abs(rounded) > largest, np.copysign(x.dtype.type(np.inf), x), rounded)


FLOAT8 = {"float8_e4m3fn": (4, -6, 448.0), "float8_e5m2": (3, -14, 57344.0)}
"""Bits of significand, smallest exponent and largest number of the 8-bit formats (Micikevicius et al. 2022)."""


def round_float8(x: Float[np.ndarray, " ..."], format_name: str) -> Float[np.ndarray, " ..."]:
    """The nearest values of an 8-bit format, ties to even, in the dtype of `x`.

    Beyond its range: infinity in float8_e5m2, NaN in float8_e4m3fn, which has no infinity.
    """
    precision, emin, largest = FLOAT8[format_name]
    _, exponent = np.frexp(x)
    spacing = np.maximum(exponent, emin + 1) - precision
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.where(np.isfinite(x), np.ldexp(np.rint(np.ldexp(x, -spacing)), spacing), x)
        beyond = np.abs(rounded) > largest
    limit = x.dtype.type(np.inf if format_name == "float8_e5m2" else np.nan)
    return np.where(beyond, np.copysign(limit, x), rounded)


@dataclass(frozen=True)
class Flip:
    """A position at which the most likely next token changed; `target` is the token that follows in the data."""

    format: str
    row: str
    direction: str
    position: int
    target: str
    before: str
    after: str


@dataclass(frozen=True)
class Drift:
    """Relative error by format and layer, ||rounded - exact||_F / ||exact||_F, over all positions measured."""

    layers: list[str]
    relative_error: dict[str, dict[str, float]]
    flips: list[Flip]
    positions: int

    def as_dict(self) -> dict[str, Any]:
        """The contents of drift_results.json."""
        formats = {
            name: {
                "relative_error": errors,
                "hex": {layer: error.hex() for layer, error in errors.items()},
                "argmax_flips": sum(flip.format == name for flip in self.flips),
            }
            for name, errors in self.relative_error.items()
        }
        return {"rounded": ROUNDED, "layers": self.layers, "formats": formats, "positions": self.positions}


def measure(model: MiniGPT, run: Run) -> Drift:
    """Drift of a float64 model on the real (not padded) positions of the run's val sequences, no dropout."""
    sequences = run.sequences["val"]
    exact = layer_outputs(model, sequences)
    errors: dict[str, dict[str, float]] = {}
    flips: list[Flip] = []
    for name in FORMATS:
        weights = {key: round_weights(value, name) for key, value in model.parameters.items()}
        rounded = layer_outputs(MiniGPT(model.config, "float64", weights), sequences)
        errors[name] = {layer: relative_error(rounded[layer], exact[layer]) for layer in exact}
        flips += _flips(name, exact["logits"].argmax(-1), rounded["logits"].argmax(-1), run)
    return Drift(list(exact), errors, flips, len(exact["logits"]))


def write(folder: Path, drift: Drift) -> None:
    """drift_results.json, drift_per_layer.png and argmax_flips.md, in a folder that is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "drift_results.json", drift.as_dict())
    if plots.wanted():
        plots.drift_per_layer(drift.layers, drift.relative_error, folder / "drift_per_layer.png")
    atomic_write(folder / "argmax_flips.md", _flips_table(drift).encode())


def layer_outputs(model: MiniGPT, sequences: list[list[int]]) -> dict[str, Float[np.ndarray, "N D"]]:
    """Each layer's output at the real positions of all sequences, in order."""
    parts: dict[str, list[Array]] = {}
    for start in range(0, len(sequences), _SEQUENCES_AT_ONCE):
        batch = make_batch(sequences[start : start + _SEQUENCES_AT_ONCE])
        for layer, value in model.forward_layers(batch.input, batch.key_mask).items():
            parts.setdefault(layer, []).append(value[batch.key_mask])
    return {layer: np.concatenate(values) for layer, values in parts.items()}


def relative_error(rounded: Array, exact: Array) -> float:
    """||rounded - exact||_F / ||exact||_F, of arrays of one shape."""
    return math.sqrt(sum_squares((rounded - exact).reshape(-1)) / sum_squares(exact.reshape(-1)))


def _flips(format_name: str, before: Array, after: Array, run: Run) -> Iterator[Flip]:
    """The positions where two choices of token differ; positions are counted from 0 within a sequence."""
    names = _token_names(run.tokenizer)
    cells = (
        (row.id, direction) for row in run.corpus.splits["val"] for direction in ("en -> es", "es -> en")
    )
    index = 0
    for (row, direction), sequence in zip(cells, run.sequences["val"], strict=True):
        for position, target in enumerate(sequence[1:]):
            if before[index] != after[index]:
                tokens = (names[int(token)] for token in (target, before[index], after[index]))
                yield Flip(format_name, row, direction, position, *tokens)
            index += 1


def _token_names(tokenizer: Tokenizer) -> dict[int, str]:
    vocabulary: dict[str, int] = json.loads(tokenizer.to_json())["model"]["vocab"]
    return {**{token: name for name, token in vocabulary.items()}, **dict(enumerate(SPECIAL_TOKENS))}


def _flips_table(drift: Drift) -> str:
    """Markdown: one row a flip."""
    columns = list(Flip.__dataclass_fields__)
    counts = ", ".join(
        f"{name} {facts['argmax_flips']}" for name, facts in drift.as_dict()["formats"].items()
    )
    lines = [
        "# Argmax flips",
        "",
        "Positions of the val sequences at which rounding the weights changes the most likely next token. "
        + ROUNDED,
        f"Flips out of {drift.positions} positions: {counts}.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * len(columns),
    ]
    lines += [
        "| " + " | ".join(f"`{value}`" for value in asdict(flip).values()) + " |" for flip in drift.flips
    ]
    return "\n".join(lines) + "\n"
