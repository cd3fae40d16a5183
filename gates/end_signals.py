"""SIGTERM, SIGINT and SIGHUP end a session in order: the subjects are ended with it and the verdict says so."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

NAMES = ("SIGTERM", "SIGINT", "SIGHUP")  # the last is unknown to Windows
NUMBERS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """Somebody asked for the end of the session."""


class EndSignals:
    """Turns the first signal into `Interrupted`, in the main thread; later ones, and those after `over`, do nothing."""

    def __init__(self, told: Callable[[str], None]) -> None:
        """`told` is called with the name of the signal."""
        self._told = told
        self._before: dict[int, Any] = {}
        self._ignored = False

    def watch(self) -> None:
        """Begin. ValueError outside of the main thread."""
        self._before = {number: signal.signal(number, self._handle) for number in NUMBERS}

    def over(self) -> None:
        """What is left to do is done whoever asks for the end."""
        self._ignored = True

    def restore(self) -> None:
        """As it was before."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._ignored:
            self._ignored = True
            name = signal.Signals(number).name
            self._told(name)
            raise Interrupted(f"interrupted by {name}")
