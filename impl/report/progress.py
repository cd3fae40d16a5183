"""What a user sees while training: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from impl.kernels.runtime.cache import COMPILED


class Progress:
    """Shows each step's record; on a pipe or in a file only the evaluation steps."""

    def __init__(self, steps: int, done: int, full: Callable[[Mapping[str, Any]], str] | None = None) -> None:
        """`full` makes the line of an evaluation, in place of the short one."""
        self._shown, self._full = False, full
        self._bar = _bar(self) if sys.stdout and sys.stdout.isatty() else None  # none at all after `>&-`
        if self._bar:
            self._task = self._bar.add_task("train", total=steps, completed=done, text="")

    def compiling(self) -> str:
        """What is said until the first step is done, if kernels are compiled for it."""
        return f"compiling kernels: {COMPILED.done} are done" if COMPILED.done and not self._shown else ""

    def show(self, record: dict[str, Any]) -> None:
        """One step's log record; a line of its own if it has an evaluation."""
        self._shown = True
        text = f"loss {record['loss']:.4f}  lr {record['lr']:.2e}"
        short = f"step {record['step']:>6}  {text}  val ppl {record.get('val_ppl', 0.0):.4f}"
        if self._bar:
            self._bar.update(self._task, completed=record["step"], text=text)
        if "val_ppl" in record:
            line = self._full(record) if self._full else short
            self._bar.console.print(line, highlight=False) if self._bar else print(line, flush=True)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()


def _bar(shown: Progress) -> Any:
    """Imported only where there is a terminal to draw on."""
    from rich import progress

    class Step(progress.TextColumn):
        """Loss and rate; before the first step, which kernels it waits for."""

        def render(self, task: progress.Task) -> Any:
            task.fields["text"] = shown.compiling() or task.fields["text"]
            return super().render(task)

    return progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Step("{task.fields[text]}"),
        progress.TimeRemainingColumn(),
    )
