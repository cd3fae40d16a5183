"""The garbage collector during a training: emptied after the first step, then off, and as it was at the end.

A step leaves little garbage, and a collection in the middle of one is a step that takes longer. What the first step
leaves, its compiling above all, is collected before anything is frozen: what is garbage when it is frozen stays for
ever. A save leaves garbage, so each is followed by a collection.
"""

import gc
from types import TracebackType


class Collector:
    """A context manager around a training; on exit, also by an exception, the collector is on or off as it was.

    One that is not `quiet` does nothing.
    """

    def __init__(self, quiet: bool = True) -> None:
        self._quiet = quiet
        self._waits = self._froze = self._was_on = False

    def __enter__(self) -> "Collector":
        self._waits, self._froze, self._was_on = self._quiet, False, gc.isenabled()
        return self

    def step_done(self, *, saved: bool = False) -> None:
        """After the first step: collect, freeze what is left unless somebody has frozen before, and turn it off.

        After a step that was followed by a save, collect.
        """
        if saved:
            self.saved()
        if not self._waits:
            return
        self._waits = False
        gc.collect()
        if not gc.get_freeze_count():
            gc.freeze()
            self._froze = True
        gc.disable()

    def saved(self) -> None:
        """A save is done: collect what it left."""
        if self._quiet:
            gc.collect()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._froze:
            gc.unfreeze()
        if self._was_on:
            gc.enable()
