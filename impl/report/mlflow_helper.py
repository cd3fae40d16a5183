"""The helper process of tracking.py: obeys its commands, and has mlflow_store.py copy the run directory.

Commands are lines on stdin (`sync`, `prepare`, `where`, `finish`, `fail`); the end of stdin ends the run, also when
the training was killed. `where` and `finish` are answered by a line of JSON.
"""

import contextlib
import fcntl
import gc
import json
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impl.report.mlflow_store import Mirror

IMPORT_DELAY = 5.0
"""Seconds to wait before importing MLflow. The import takes two seconds of processor time, which the training steps can
use better; many a run has done its steps by then."""

PIPE = 2**16  # bytes: as much as a pipe holds, so that one read takes whole commands


def main() -> None:
    """Serve one run directory, the only argument, until stdin ends."""
    run_dir = Path(sys.argv[1])
    os.nice(10)  # the training comes first
    replies = os.dup(1)
    os.dup2(2, 1)  # stdout is for answers alone, whatever libraries print

    def reply(answer: dict[str, str]) -> None:
        """Send one line of JSON to the training."""
        with contextlib.suppress(BrokenPipeError):  # the training was killed
            os.write(replies, json.dumps(answer).encode() + b"\n")

    with (run_dir / "manifest.json").open("r+b") as manifest:
        fcntl.flock(manifest, fcntl.LOCK_EX)  # the helper of a killed training may still be at work
        first = first_commands(sys.stdin.fileno(), IMPORT_DELAY)
        gc.disable()  # as in impl/__main__.py
        from impl.report.mlflow_store import Mirror

        gc.freeze()
        gc.enable()
        serve(Mirror(run_dir, os.environ["MLFLOW_TRACKING_URI"]), first, reply)


def first_commands(stdin: int, quiet: float) -> list[str]:
    """The first commands that are not `sync` alone; after `quiet` seconds those too, or if there are none, a `sync`."""
    end = time.monotonic() + quiet
    while (left := end - time.monotonic()) > 0 and select.select([stdin], [], [], left)[0]:
        if set(commands := _commands(stdin)) != {"sync"}:
            return commands
    return ["sync"]


def serve(mirror: "Mirror", commands: list[str], reply: Callable[[dict[str, str]], None]) -> None:
    """Obey these commands, and more until stdin ends. All that came during a slow copy are served by one copy."""
    from impl.report.mlflow_store import FINISHED

    status = "KILLED"
    while commands:
        if "finish" in commands:
            status = FINISHED
            mirror.attempt(mirror.copy_log, mirror.copy_artefacts, mirror.copy_results, mirror.end(status))
        elif "fail" in commands:
            status = "FAILED"
        else:
            mirror.attempt(mirror.copy_log)
        if commands[-1] in ("where", "finish"):
            reply(mirror.answer())
        commands = _commands(sys.stdin.fileno())
    if status != FINISHED:
        mirror.attempt(mirror.copy_log, mirror.end(status))


def _commands(stdin: int) -> list[str]:
    """What was said since the last time, or is said next; [] at the end."""
    return os.read(stdin, PIPE).decode().split()


if __name__ == "__main__":
    main()
