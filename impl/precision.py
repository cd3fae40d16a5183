"""What the settings of precision make of a run: the model, and the state machines beside the five."""

from collections.abc import Mapping
from typing import Any

from impl.config import Config
from impl.kernels.half_precision import BFLOAT16, round_flat
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters
from impl.optim.loss_scale import LossScale
from impl.optim.stochastic_rounding import StochasticRounding
from impl.run.checkpoint import StateMachine


def model_of(config: Config) -> MiniGPT:
    """The model in its initial state; with stochastic rounding its first values are rounded to nearest."""
    first = initial_parameters(config.seed, config.model)
    said: dict[str, Any] = {"autocast": config.precision.autocast, "recompute": config.recompute}
    model = MiniGPT(config.model, config.dtype, first, loss=config.loss, **said)
    if config.precision.stochastic_rounding:
        round_flat(model.flat_parameters, BFLOAT16)
    return model


def precision_machines(config: Config) -> dict[str, StateMachine]:
    """The loss scale and the noise of rounding, where they are switched on."""
    machines: dict[str, StateMachine] = {}
    if config.precision.loss_scaling:
        machines["loss_scale"] = LossScale(config.precision)
    if config.precision.stochastic_rounding:
        machines["rounding"] = StochasticRounding(config.seed)
    return machines


def precision_of(machines: Mapping[str, StateMachine]) -> dict[str, Any]:
    """Keywords of `impl.update.update` for what is switched on; none by default."""
    names = {"loss_scale": "scaler", "rounding": "rounding"}
    return {names[name]: machine for name, machine in machines.items() if name in names}
