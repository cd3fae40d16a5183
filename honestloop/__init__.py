"""Grade a language-model training loop: `honestloop.check(subject)`, `python -m honestloop`, `pytest -p honestloop`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from honestloop.checking import Report, check

__all__ = ["Report", "__version__", "check"]
__version__ = "0.1.0"

pytest_plugins = ("honestloop.plugin",)
"""What `pytest -p honestloop` loads."""


def __getattr__(name: str) -> Any:
    """Import what grades only when it is asked for: the protocol and the recorder need none of it."""
    if name in ("Report", "check"):
        from honestloop import checking

        globals().update(Report=checking.Report, check=checking.check)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
