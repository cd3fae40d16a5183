"""The settings of a run: a dictionary of checked values, TOML in and out."""

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from torch_phase18.errors import UsageError

DEFAULTS: dict[str, Any] = {
    "seed": "0",  # text, because JSON numbers are exact only up to 2^53
    "dtype": "float32",
    "steps": 600,
    "batch_size": 32,
    "micro_batches": 1,
    "dropout": 0.1,
    "eval_every": 50,
    "checkpoint_every": 50,
    "optimizer": {
        "peak_lr": 4e-3,
        "min_lr": 1e-4,
        "warmup_steps": 50,
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-8,
        "weight_decay": 1.0,
        "clip_norm": 1.0,
    },
}
POSITIVE = ("batch_size", "micro_batches", "eval_every", "checkpoint_every")
COUNTS = (*POSITIVE, "steps", "warmup_steps")
BELOW_ONE = ("dropout", "beta1", "beta2")


def load(path: Path | None, **given: Any) -> dict[str, Any]:
    """The defaults, what a TOML file says otherwise, and what was given. UsageError, one line, names the key."""
    said = _read(path) if path else {}
    said |= {name: value for name, value in given.items() if value is not None}
    where = path or "options"
    optimizer = said.pop("optimizer", {})
    for table, known in ((said, DEFAULTS), (optimizer, DEFAULTS["optimizer"])):
        if unknown := sorted(table.keys() - known.keys()):
            raise UsageError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
    config = DEFAULTS | said | {"optimizer": DEFAULTS["optimizer"] | optimizer}
    for name, value in [*config.items(), *config["optimizer"].items()]:
        if name != "optimizer" and not _legal(name, value):
            raise UsageError(f"{where}: {name}: {value!r} is not allowed")
    if config["optimizer"]["min_lr"] > config["optimizer"]["peak_lr"]:
        raise UsageError(f"{where}: min_lr is above peak_lr")
    return config | {"seed": str(int(config["seed"]))}


def to_toml(config: dict[str, Any]) -> bytes:
    """What `load` makes the same settings of."""
    return tomli_w.dumps(config).encode()


def _legal(name: str, value: Any) -> bool:
    if name == "seed":
        return bool(re.fullmatch("[0-9]{1,20}", str(value))) and int(value) < 2**64
    if name == "dtype":
        return value in ("float32", "float64")
    if name in COUNTS:
        return type(value) is int and (1 if name in POSITIVE else 0) <= value < 2**53
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        return False
    return value < 1 if name in BELOW_ONE else value > 0 or name in ("min_lr", "weight_decay")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from None
