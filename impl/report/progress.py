"""What a user sees while training: a bar on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Any


class Progress:
    """Shows each step's record; on a pipe or in a file only the evaluation steps."""

    def __init__(self, steps: int, done: int) -> None:
        self._bar = _bar() if sys.stdout and sys.stdout.isatty() else None  # none at all after `>&-`
        if self._bar:
            self._task = self._bar.add_task("train", total=steps, completed=done, text="")

    def show(self, record: dict[str, Any]) -> None:
        """One step's log record; a line of its own if it has an evaluation."""
        text = f"loss {record['loss']:.4f}  lr {record['lr']:.2e}"
        line = f"step {record['step']:>6}  {text}  val ppl {record.get('val_ppl', 0.0):.4f}"
        if self._bar:
            self._bar.update(self._task, completed=record["step"], text=text)
        if "val_ppl" in record:
            self._bar.console.print(line, highlight=False) if self._bar else print(line, flush=True)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()


def _bar() -> Any:
    """Imported only where there is a terminal to draw on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.fields[text]}")
    return Progress(BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn())
