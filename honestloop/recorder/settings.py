"""What a run declares of its optimizer: `config.optimizer` of the manifest, from which its updates are judged."""

import fnmatch
import re
from collections.abc import Mapping
from typing import Any

from honestloop.recorder.errors import RecorderError

REQUIRED = ("peak_lr", "beta1", "beta2", "eps", "weight_decay", "clip_norm", "decayed")
KNOWN = (*REQUIRED, "min_lr", "warmup_steps", "total_steps", "schedule")


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings. RecorderError for one that is missing or unknown: a misspelt one would count as not declared."""
    if missing := [name for name in REQUIRED if name not in settings]:
        raise RecorderError(f"optimizer_settings: {missing[0]} is missing; there are {', '.join(KNOWN)}")
    if unknown := sorted(set(settings) - set(KNOWN)):
        raise RecorderError(
            f"optimizer_settings: unknown setting {unknown[0]!r}; there are {', '.join(KNOWN)}"
        )
    return dict(settings)


def adamw_settings(model: Any, optimizer: Any, *, clip_norm: float | None, **schedule: Any) -> dict[str, Any]:
    """The settings of a PyTorch AdamW, read from its groups: betas, eps, decay, and which names decay.

    `clip_norm`: the limit of the global gradient norm, None if nothing is clipped. `schedule`: peak_lr, if it is not
    the first group's `initial_lr` or `lr`; min_lr, warmup_steps, total_steps and the name of the `schedule`.
    RecorderError if the groups differ in more than in whether they decay.
    """
    groups = optimizer.param_groups
    for key in ("betas", "eps"):
        if any(group[key] != groups[0][key] for group in groups):
            raise RecorderError(
                f"the groups of the optimizer differ in {key}: declare optimizer_settings yourself"
            )
    decays = sorted({float(group["weight_decay"]) for group in groups} - {0.0})
    if len(decays) > 1:
        raise RecorderError(
            "the groups of the optimizer differ in weight_decay: declare optimizer_settings yourself"
        )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = [
        escaped(names[id(p)])
        for g in groups
        if g["weight_decay"] != 0.0
        for p in g["params"]
        if id(p) in names
    ]
    beta1, beta2 = groups[0]["betas"]
    return checked(
        {
            "peak_lr": float(groups[0].get("initial_lr", groups[0]["lr"])),
            "beta1": float(beta1),
            "beta2": float(beta2),
            "eps": float(groups[0]["eps"]),
            "weight_decay": decays[0] if decays else 0.0,
            "clip_norm": clip_norm,
            "decayed": decayed,
            **schedule,
        }
    )


def escaped(name: str) -> str:
    """The pattern that matches this name alone."""
    pattern = re.sub(r"([*?[])", r"[\1]", name)
    assert fnmatch.fnmatchcase(name, pattern)
    return pattern
