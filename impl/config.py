"""Every setting of a run, as one typed, frozen model; TOML in and out."""

import tomllib
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
    n_layers: Positive = 2
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


class Config(_Settings):
    """One training run. Equal configurations on equal data give equal bits."""

    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    steps: Annotated[int, Field(ge=0)] = 600
    batch_size: Positive = 32
    micro_batches: Positive = (
        1  # parts that a batch is cut into, one after the other: less memory, the same bits
    )
    dropout: Fraction = 0.1
    eval_every: Positive = 50
    checkpoint_every: Positive = 50
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form; the seed is a string because JSON numbers are exact only up to 2^53."""
        return {**self.model_dump(), "seed": str(self.seed)}

    def to_toml(self) -> str:
        """TOML text that `load` turns back into an equal Config."""
        return tomli_w.dumps(self.as_dict())


def load(path: Path | None = None, **overrides: Any) -> Config:
    """Settings from a TOML file (defaults if None), then `overrides` that are not None.

    Raises UsageError with one line that names the file and the key.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not valid TOML ({error})") from None
    settings.update({key: value for key, value in overrides.items() if value is not None})
    if isinstance(settings.get("seed"), str) and settings["seed"].isdecimal():
        settings["seed"] = int(settings["seed"])
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "config"
        raise UsageError(f"{path or 'options'}: {key}: {first['msg']}") from None
