"""Write a run directory from a training loop: `Recorder`. Neither PyTorch nor JAX is imported unless it is used."""

from honestloop.recorder.errors import RecorderError
from honestloop.recorder.recorder import Recorder, Resumed
from honestloop.recorder.settings import adamw_settings

__all__ = ["Recorder", "RecorderError", "Resumed", "adamw_settings"]
