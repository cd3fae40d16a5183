"""How far a grading is, on a terminal: one line on standard error, gone when it is over."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from honestloop.checking import Result
from properties.grading import Status


class Progress:
    """A bar for `with`; nothing at all where standard error is no terminal."""

    def __init__(self, what: str, total: int) -> None:
        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._bar = Bar(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
        self._what, self._broken = what, 0
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, result: Result) -> None:
        """One more property is graded."""
        self._broken += result.outcome.status == Status.BROKEN
        what = f"{self._what}: {self._broken} failed" if self._broken else self._what
        self._bar.update(self._task, advance=1, description=what)
