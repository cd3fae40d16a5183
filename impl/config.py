"""Every setting of a run, as one typed, frozen model; TOML in and out."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from impl.errors import UsageError

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelConfig(_Settings):
    """Shape of MiniGPT. The defaults are the locked model of 103,680 parameters."""

    d_model: Positive = 64
    n_heads: Positive = 4
    n_layers: Annotated[int, Field(gt=0, le=2**16)] = 2  # of more the names alone take minutes
    d_ff: Positive = 256
    vocab_size: Positive = 64
    context: Positive = 32
    ln_eps: Annotated[float, Field(gt=0)] = 1e-5
    rope_base: Annotated[float, Field(gt=1)] = 10000.0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelConfig":
        if self.d_model % (2 * self.n_heads):
            raise ValueError("d_model must be a multiple of 2 * n_heads (rotary pairs)")
        return self


class OptimizerConfig(_Settings):
    """AdamW (Loshchilov & Hutter 2019) with warm-up, cosine decay and global-norm clipping."""

    peak_lr: Annotated[float, Field(gt=0)] = 4e-3
    min_lr: Annotated[float, Field(ge=0)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 1.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _floor_below_peak(self) -> "OptimizerConfig":
        if self.min_lr > self.peak_lr:
            raise ValueError("min_lr must not exceed peak_lr")
        return self


class MuonConfig(_Settings):
    """Muon for the matrices of the blocks (Jordan et al. 2024; NorMuon; cautious decay), AdamW for all else."""

    enabled: bool = False
    peak_lr: Annotated[float, Field(gt=0)] = 0.02
    """Its schedule is that of AdamW's rate, in proportion."""
    momentum_start: Fraction = 0.85
    momentum: Fraction = 0.95
    momentum_end: Fraction = 0.95
    momentum_ramp: Annotated[int, Field(ge=0)] = 300
    """Updates from momentum_start to momentum; fewer where the run is shorter."""
    momentum_cooldown: Annotated[int, Field(ge=0)] = 0
    """Last updates, in which the momentum goes to momentum_end."""
    beta2: Fraction = 0.95
    weight_decay: Annotated[float, Field(ge=0)] = 0.2
    decay_schedule: Literal["linear", "cosine", "constant"] = "linear"


class Config(_Settings):
    """One training run. Equal configurations on equal data give equal bits."""

    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    steps: Annotated[int, Field(ge=0)] = 600
    batch_size: Positive = 32
    micro_batches: Positive = 1
    """Parts into which a batch is cut, computed one after the other: less memory, the same bits."""
    dropout: Fraction = 0.1
    eval_every: Positive = 50
    checkpoint_every: Positive = 50
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    muon: MuonConfig = MuonConfig()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form; the seed is a string because JSON numbers are exact only up to 2^53."""
        return {**self.model_dump(), "seed": str(self.seed)}

    def to_toml(self) -> str:
        """TOML text that `load` turns back into an equal Config."""
        return tomli_w.dumps(self.as_dict())


SECTIONS = [name for name, field in Config.model_fields.items() if isinstance(field.default, _Settings)]
WHOLE_NUMBER = "a whole number (at most 20 of the digits 0 to 9)"


def load(path: Path | None = None, **overrides: Any) -> Config:
    """Settings from a TOML file (defaults if None), then `overrides` that are not None.

    Raises UsageError with one line that names the file and the key.
    """
    source = path or "options"
    settings = _read(path) if path else {}
    settings.update({key: value for key, value in overrides.items() if value is not None})
    if isinstance(text := settings.get("seed"), str):
        settings["seed"] = whole_number(text)
        if settings["seed"] is None:
            raise UsageError(f"{source}: seed: {text[:40]!r} is not {WHOLE_NUMBER}")
    for key, value in _flat(settings):
        if type(value) is int and value >= 2**53 and key != "seed":
            raise UsageError(f"{source}: {key}: the integer is too large, it must be below 2^53")
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise UsageError(f"{source}: {_explained(error.errors()[0])}") from None


def whole_number(text: str) -> int | None:
    """The number that a text is, or None if it is not `WHOLE_NUMBER`: no sign, no space, no digits of other scripts."""
    return int(text) if re.fullmatch("[0-9]{1,20}", text) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # TOML or UTF-8 that is none, or an integer of thousands of digits
        raise UsageError(f"{path}: not valid TOML ({error})") from None


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every setting, those of sections too."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", x) for inner, x in _flat(value))
        else:
            yield key, value


def _explained(error: Any) -> str:
    """What is wrong, in one line; of an unknown setting, the known ones that are spelled most like it."""
    key = ".".join(map(str, error["loc"])) or "config"
    if error["type"] == "extra_forbidden":
        known = {name.rpartition(".")[2]: name for name, _ in _flat(Config().as_dict())}
        near = _most_like(error["loc"][-1], known | {name: name for name in SECTIONS})
        if near:
            return f"unknown setting {key!r}; did you mean {' or '.join(near)}?"
        return f"unknown setting {key!r}; known are {', '.join(known.values())}"
    if error["type"] == "model_type":
        return f"{key}: is a section; write [{key}] and its settings below that line"
    if isinstance(error["input"], dict) and key not in (*SECTIONS, "config"):
        return f"{key}: is one value, not a section"
    return f"{key}: {error['msg']}"


def _most_like(name: str, known: Mapping[str, str]) -> list[str]:
    """What `known` has under the names most like `name`, the nearest first; nothing if none is like it."""
    import difflib  # here, because only a wrong configuration needs it

    likeness = {other: difflib.SequenceMatcher(None, name, other).ratio() for other in known}
    least = max(0.4, 0.85 * max(likeness.values()))
    return [known[other] for other in sorted(known, key=lambda n: -likeness[n]) if likeness[other] >= least]
