"""Grade a language-model training loop: `honestloop.check(subject)`, `python -m honestloop`, `pytest -p honestloop`."""

import importlib
from typing import Any

__all__ = ["Report", "__version__", "check"]
__version__ = "0.1.0"

pytest_plugins = ("honestloop.plugin",)
"""What `pytest -p honestloop` loads."""


def __getattr__(name: str) -> Any:
    """Import what grades only when it is asked for: the protocol alone needs none of it."""
    if name in ("Report", "check"):
        return getattr(importlib.import_module("honestloop.checking"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
