"""torch.optim.AdamW with decay for the matrices, and LambdaLR."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from torch_phase18.model import MiniGPT, is_matrix

MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}


def rate_factor(step: int, *, peak: float, floor: float, warmup: int, total: int) -> float:
    """Rate of a step, counted from 0, as a share of the peak: llm.c's warm-up, then half a cosine down to the floor."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return floor / peak + (1.0 - floor / peak) * 0.5 * (1.0 + math.cos(math.pi * progress))


class Optimizer:
    """AdamW and its schedule; `t` counts the updates."""

    def __init__(self, model: MiniGPT, settings: dict[str, float], steps: int) -> None:
        self.parameters = dict(model.named_parameters())
        peak, floor, warmup = settings["peak_lr"], settings["min_lr"], int(settings["warmup_steps"])
        groups = [
            {"params": [x for n, x in self.parameters.items() if is_matrix(n) is decays], "weight_decay": wd}
            for decays, wd in ((True, settings["weight_decay"]), (False, 0.0))
        ]
        betas = settings["beta1"], settings["beta2"]
        self.adamw = torch.optim.AdamW(groups, lr=peak, betas=betas, eps=settings["eps"], foreach=False)
        self.schedule = LambdaLR(
            self.adamw, lambda step: rate_factor(step, peak=peak, floor=floor, warmup=warmup, total=steps)
        )

    @property
    def t(self) -> int:
        """How many updates were made."""
        return int(self.schedule.last_epoch)

    @property
    def rate(self) -> float:
        """Of the coming update."""
        return float(self.adamw.param_groups[0]["lr"])

    def step(self) -> None:
        """One update with the gradients that are there, and the next rate."""
        self.adamw.step()
        self.schedule.step()

    def moments(self) -> dict[str, Tensor]:
        """Both moments of every parameter; zeros before the first update."""
        return {
            f"{kind}.{name}": self.adamw.state[x][key] if x in self.adamw.state else torch.zeros_like(x)
            for kind, key in MOMENTS.items()
            for name, x in self.parameters.items()
        }

    def restore(self, t: int, moments: dict[str, Tensor]) -> None:
        """Go on after update t with these moments."""
        if t:
            for name, x in self.parameters.items():
                kept = {key: moments[f"{kind}.{name}"].clone() for kind, key in MOMENTS.items()}
                self.adamw.state[x] = {"step": torch.tensor(float(t)), **kept}
        self.schedule.last_epoch = t
        factor = self.schedule.lr_lambdas[0](t)
        for group, base in zip(self.adamw.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = base * factor

    def state(self) -> dict[str, Any]:
        """The two counters that state.json keeps."""
        return {"optimizer": {"t": self.t}, "scheduler": {"step": self.t}}
