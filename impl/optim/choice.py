"""The optimizer that a configuration asks for."""

from collections.abc import Mapping

from impl.config import Config
from impl.optim.optimizer import AdamW, Optimizer


def optimizer_of(config: Config, shapes: Mapping[str, tuple[int, ...]]) -> Optimizer:
    """Muon for the matrices and AdamW for the rest if [muon] is enabled, else AdamW, in its initial state."""
    if not config.muon.enabled:
        return AdamW(dict(shapes), config.dtype, config.optimizer)
    from impl.optim.muon import Muon  # whose kernels a run without it need not compile

    return Muon(shapes, config.dtype, config.optimizer, config.muon, config.steps)
