"""How far each layer moves when the weights are rounded to float16 or bfloat16; the arithmetic stays in float64."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_phase18 import plots
from torch_phase18.data import batch_of
from torch_phase18.files import to_json, write_atomically
from torch_phase18.model import MiniGPT, exact
from torch_phase18.run import Run

FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def rounded(x: Tensor, form: str) -> Tensor:
    """Nearest, ties to even. torch rounds float64 twice, through float32: the weights are float32 numbers already."""
    if x.dtype == torch.float64:  # rounding to odd in float32 first makes it once (Boldo, Melquiond, 2008)
        single = x.to(torch.float32)
        back = single.to(torch.float64)
        towards = torch.where(x.abs() < back.abs(), -1, 0).to(torch.int32)
        odd = ((single.view(torch.int32) + towards) | 1).view(torch.float32)
        x = torch.where((back != x) & torch.isfinite(single), odd, single)
    return x.to(FORMATS[form]).to(torch.float64)


@torch.no_grad()
def measure(weights: dict[str, Tensor], run: Run) -> tuple[dict[str, Any], str]:
    """The contents of drift_results.json, and of argmax_flips.md."""
    batch = batch_of(run.sequences["val"])

    def outputs(model: MiniGPT) -> dict[str, Tensor]:
        return {name: x[batch.real] for name, x in model.layers(batch.tokens, batch.real).items()}

    plain = outputs(exact(weights))
    formats, lines = {}, list[str]()
    for form in FORMATS:
        moved = outputs(exact({name: rounded(x, form) for name, x in weights.items()}))
        errors = {name: float((moved[name] - x).norm() / x.norm()) for name, x in plain.items()}
        flips = (plain["logits"].argmax(-1) != moved["logits"].argmax(-1)).nonzero().flatten().tolist()
        hexadecimal = {name: error.hex() for name, error in errors.items()}
        formats[form] = {"relative_error": errors, "hex": hexadecimal, "argmax_flips": len(flips)}
        lines += [f"{form}: {len(flips)} flips", *(f"- real position {i} of the val split" for i in flips)]
    results = {"layers": list(plain), "formats": formats, "positions": len(plain["logits"])}
    return results, "# Argmax flips\n\n" + "\n".join(lines) + "\n"


def write(folder: Path, weights: dict[str, Tensor], run: Run) -> None:
    """The report: numbers, a plot unless plots are off, and the flips."""
    folder.mkdir(parents=True, exist_ok=True)
    results, flips = measure(weights, run)
    write_atomically(folder / "drift_results.json", to_json(results))
    write_atomically(folder / "argmax_flips.md", flips.encode())
    if plots.wanted():
        curves = {
            form: said["relative_error"] for form, said in json.loads(to_json(results))["formats"].items()
        }
        plots.drift(results["layers"], curves, folder / "drift_per_layer.png")
