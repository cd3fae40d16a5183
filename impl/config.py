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
    window: Annotated[int, Field(ge=0)] = 0
    """Keys that a position may attend to, itself among them; 0: all before it."""
    softcap: Annotated[float, Field(ge=0)] = 0.0
    """Logits become softcap tanh(logit / softcap), in training and evaluation alike; 0: they are left as they are."""

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


class LossConfig(_Settings):
    """What is minimised; the `loss` of the log is the cross-entropy, without smoothing and z-loss."""

    label_smoothing: Fraction = 0.0
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Times (log sum exp)^2 of the logits, per predicted token."""


class ScheduleConfig(_Settings):
    """What the learning rate does between the warm-up and the end of the run."""

    kind: Literal["cosine", "linear", "constant", "warmdown"] = "cosine"
    by: Literal["updates", "time"] = "updates"
    """What is counted: updates, or for a warm-down the share of `stopping.seconds` that is used."""
    warmdown: Annotated[float, Field(gt=0, le=1)] = 0.65
    """The share of the run, at its end, in which the rate of a warm-down falls to min_lr."""
    warmup: Fraction = 0.0
    """The share of the time in which the rate rises from 0, for by = "time"; 0 is none."""

    @model_validator(mode="after")
    def _time_is_of_a_warmdown(self) -> "ScheduleConfig":
        if self.by == "time" and self.kind != "warmdown":
            raise ValueError('by = "time" is for kind = "warmdown"')
        if self.warmup + self.warmdown > 1:
            raise ValueError("warmup and warmdown must not be more than the run")
        return self


class StoppingConfig(_Settings):
    """What ends a run before its last step, or refuses an update; 0 is off."""

    epochs: Annotated[int, Field(ge=0)] = 0
    tokens: Annotated[int, Field(ge=0)] = 0
    """Predicted tokens; the run ends with the update that reaches them."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Of updates alone, without evaluations, checkpoints and the first `excluded_updates`."""
    excluded_updates: Annotated[int, Field(ge=0)] = 10
    patience: Annotated[int, Field(ge=0)] = 0
    """Evaluations in a row without a better one, at the last of which the run ends."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    loss_above: Annotated[float, Field(ge=0)] = 0.0
    """A training loss above this is refused before it changes anything."""
    z_score: Annotated[float, Field(ge=0)] = 0.0
    """So is one so many standard deviations above the mean of the `window` losses before it."""
    window: Annotated[int, Field(ge=2)] = 128


class AverageConfig(_Settings):
    """Moving averages: how much of the old average an update keeps; 0 is off."""

    weights: Fraction = 0.0
    """Evaluations are then of the averaged weights."""
    loss: Fraction = 0.0
    """The log then has smooth_loss, debiased."""


class EvaluationConfig(_Settings):
    """What is evaluated and shown while a run trains; nothing here changes a bit of the training."""

    token_budget: Annotated[int, Field(ge=0)] = 0
    """Predicted tokens of the validation split that an evaluation reads, from the first on; 0 for all of them."""
    sample_every: Annotated[int, Field(ge=0)] = 0
    """Updates between two samples, after the last one always; 0 for none at all."""
    samples: Positive = 2
    """Rows of the validation split that are translated, both ways."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy; only above it do the three filters act."""
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0


class ReportConfig(_Settings):
    """What a run says of itself while it trains."""

    line: Literal["short", "full"] = "short"
    """`full`: every field of impl/report/log_line.py, with every digit."""
    peak_flops: Annotated[float, Field(ge=0)] = 0.0
    """Operations a second that the machine can do at most; 0 is not known, and then there is no utilisation."""
    price_per_hour: Annotated[float, Field(ge=0)] = 0.0
    collector: Literal["usual", "quiet"] = "usual"
    """`quiet`: garbage is collected after the first step and after saves, and at no other time."""


class PrecisionConfig(_Settings):
    """What is computed and kept in 16 bits; by default nothing."""

    autocast: Literal["none", "float16", "bfloat16"] = "none"
    """Operands and results of the model's matrix products in training; the weights stay in the run's dtype."""
    loss_scaling: bool = False
    init_scale: Annotated[float, Field(gt=0, le=2.0**127)] = 2.0**16
    growth_factor: Annotated[float, Field(gt=1)] = 2.0
    backoff_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    growth_interval: Positive = 2000
    stochastic_rounding: bool = False
    """Weights in bfloat16, rounded at random after each update."""


class Config(_Settings):
    """One training run. Equal configurations on equal data give equal bits."""

    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    steps: Annotated[int, Field(ge=0)] = 600
    batch_size: Positive = 32
    micro_batches: Positive = 1
    """Parts into which a batch is cut, computed one after the other: less memory, the same bits."""
    recompute: bool = False
    """Keep the inputs of the blocks alone, and compute each block again in the backward pass: the same bits."""
    accumulate: Positive = 1
    """Batches an update."""
    leftover: Literal["update", "carry", "drop"] = "update"
    """What becomes of the batches that are too few for a window at the end of an epoch."""
    counters: bool = False
    """Tokens and fractional epochs in the log and the checkpoint, beside the steps."""
    dropout: Fraction = 0.1
    eval_every: Positive = 50
    checkpoint_every: Positive = 50
    keep_best: bool = False
    """Keep the checkpoint with the lowest validation loss, in best/."""
    halve_micro_batches: bool = False
    """Compute an update again in twice as many micro-batches when memory runs out."""
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    muon: MuonConfig = MuonConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    stopping: StoppingConfig = StoppingConfig()
    average: AverageConfig = AverageConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    precision: PrecisionConfig = PrecisionConfig()

    @model_validator(mode="after")
    def _time_has_an_end(self) -> "Config":
        if self.schedule.by == "time" and not self.stopping.seconds:
            raise ValueError('schedule.by = "time" needs stopping.seconds')
        return self

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


PRESETS = Path(__file__).with_name("presets")


def preset(name: str) -> Path:
    """The file of settings of that name in impl/presets. UsageError if there is none."""
    known = {path.stem: path for path in sorted(PRESETS.glob("*.toml"))}
    if name not in known:
        raise UsageError(f"preset {name!r}: there are {', '.join(known)}")
    return known[name]


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
        known: dict[str, str] = {}
        for name, _ in _flat(Config().as_dict()):
            known.setdefault(name.rpartition(".")[2], name)
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
