"""MLflow wraps the run directory: a helper process copies what is there into a tracking store.

Training neither imports MLflow nor waits for it: the helper (mlflow_helper.py) has an interpreter of its own, and
a store that is slow, broken or gone costs a run one line on stderr. The run directory stays the only truth.
"""

import contextlib
import functools
import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil

DEFAULT_URI = "sqlite:///runs/mlflow.db"
PATIENCE = 30.0  # seconds; a first migration takes 2, and the helper gives up a dead server within 10
AT_WORK = 0.02
"""A helper that has used so much of the processor is at work, if slowly: beside it other processes have all cores."""
MOST_WAITS = 20

# Short waits, unless the user asks for others: a training must not hang on its book-keeping.
HELPER_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


def tracking_uri() -> str | None:
    """Store to log to: MLFLOW_TRACKING_URI, else a local SQLite file; None if HONESTLOOP_TRACKING=off."""
    if os.environ.get("HONESTLOOP_TRACKING", "").lower() == "off":
        return None
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def without_password(text: str) -> str:
    """`text` with the credentials of any address in it hidden."""
    return re.sub(r"://[^/@\s]*@", "://***@", text)


class Tracker:
    """Keeps the MLflow run of one run directory up to date; a context manager that never raises.

    manifest.json and config.toml must be in `run_dir`. The MLflow run is found by its tag `honestloop.run_id`, so a
    resumed training continues it. A run that ends without `finish` is marked KILLED, even if this process is
    killed; one that ends with an exception, FAILED.
    """

    def __init__(self, run_dir: Path, uri: str | None = None, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._complained = False
        self._uri = uri or tracking_uri()
        self._helper = _start_helper(run_dir, self._uri) if self._uri else None

    def sync(self) -> None:
        """Have the new log lines copied into the store, but not in the first seconds of a training; returns at once."""
        if self._helper is not None:
            _tell(self._helper, "sync")

    def prepare(self) -> None:
        """The steps are done and `where` will come soon: have the log copied in any case; returns at once."""
        if self._helper is not None:
            _tell(self._helper, "prepare")

    def where(self) -> dict[str, Any]:
        """Wait until the whole log is in the store: {"run_id", "uri"}, or {"error"}, or {"off": True}."""
        return self._ask("where")

    def finish(self) -> dict[str, Any]:
        """Have log and artefacts copied and the run marked FINISHED; call when all files are there. As `where`."""
        return self._ask("finish")

    def close(self, *, failed: bool = False) -> None:
        """Let the helper end, after it has copied the log and given an unfinished run its status."""
        if self._helper is None:
            return
        helper, self._helper = self._helper, None
        if failed:
            _tell(helper, "fail")
        with helper:  # closes its input and waits
            _pipe(helper.stdin).close()
            if not self._in_time(helper, functools.partial(_has_ended, helper)):
                helper.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)

    def _ask(self, command: str) -> dict[str, Any]:
        """The helper's answer, a line of JSON. One that is late is ended; the first error is printed."""
        if self._helper is None:
            return {"off": True}
        _tell(self._helper, command)
        answers = _pipe(self._helper.stdout)
        helper = self._helper
        in_time = self._in_time(helper, lambda seconds: bool(select.select([answers], [], [], seconds)[0]))
        line = answers.readline() if in_time else b""
        if line:
            answer: dict[str, Any] = json.loads(line)
        else:
            self._helper.kill()
            answer = {"error": "its helper process died" if in_time else f"no answer in {self._patience:g} s"}
        if "error" in answer and not self._complained:
            self._complained = True
            store = without_password(self._uri or "")
            print(f"tracking: the run is whole, but not in {store}: {answer['error']}", file=sys.stderr)
        return answer

    def _in_time(self, helper: "subprocess.Popen[bytes]", done: Callable[[float], bool]) -> bool:
        """Whether `done`, which waits for so many seconds at most, is true before the helper is given up.

        That is when it did nothing for as long as the patience lasts: one that hardly gets a core is waited for.
        """
        used = _processor_seconds(helper)
        for _ in range(MOST_WAITS):
            if done(self._patience):
                return True
            before, used = used, _processor_seconds(helper)
            if used - before < AT_WORK * self._patience:
                break
        return False


def _has_ended(helper: "subprocess.Popen[bytes]", seconds: float) -> bool:
    try:
        helper.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _processor_seconds(helper: "subprocess.Popen[bytes]") -> float:
    """What the helper has used so far; 0 once it has ended."""
    try:
        times = psutil.Process(helper.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _start_helper(run_dir: Path, uri: str) -> "subprocess.Popen[bytes]":
    """Start `impl.report.mlflow_helper`, in a session of its own so that Ctrl-C reaches the training alone."""
    package_root = Path(__file__).resolve().parents[2]
    search_path = [str(package_root), *filter(None, [os.environ.get("PYTHONPATH")])]
    helper = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.mlflow_helper", str(run_dir)],
        # The address may hold a password, so it travels in the environment, not on the command line.
        env={
            **HELPER_SETTINGS,
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "PYTHONPATH": os.pathsep.join(search_path),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
    )
    # A write to a helper that has stopped reading must not stop the training.
    os.set_blocking(_pipe(helper.stdin).fileno(), False)
    return helper


def _tell(helper: "subprocess.Popen[bytes]", command: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the helper is dead, which `_ask` will find
        _pipe(helper.stdin).write(command.encode() + b"\n")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
