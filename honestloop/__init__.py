"""Grade a language-model training loop: `honestloop.check(subject)`, `python -m honestloop`, `pytest -p honestloop`.

`honestloop.Recorder` writes the run directory of a loop.
"""

import importlib
from typing import Any

__all__ = ["Recorder", "Report", "__version__", "check"]
__version__ = "0.1.0"

pytest_plugins = ("honestloop.plugin",)
"""What `pytest -p honestloop` loads."""

_PLACES = {"Report": ".checking", "check": ".checking", "Recorder": ".recorder"}


def __getattr__(name: str) -> Any:
    """Import what grades, or records, only when it is asked for: the protocol alone needs none of it."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
