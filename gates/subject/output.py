"""What a process says, read as it comes, so that no full pipe stops it; only the end is kept."""

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

LIMIT = 1 << 16
"""Bytes kept of each stream, its last ones."""
BLOCK = 1 << 16
PATIENCE = 1.0
"""Seconds in which what is left in a pipe is read, after everybody known to write to it has ended."""
LOOK = 0.1


class Output:
    """Pipes of one process, read in a thread of its own; each also goes, at the end, into a file to be looked at."""

    def __init__(self, pipes: Sequence[IO[bytes]], files: Sequence[Path]) -> None:
        self._pipes, self._files = pipes, files
        self._kept = [bytearray() for _ in pipes]
        self._dropped = [0 for _ in pipes]
        self._over: float | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, name="output", daemon=True)
        for file in files:
            file.touch()
        self._thread.start()

    def end(self) -> list[str]:
        """The end of what each pipe brought. Whoever still holds a pipe open is no longer listened to."""
        with self._lock:
            if self._over is None:
                self._over = time.monotonic() + PATIENCE
                self._thread.join()
                for file, kept, dropped in zip(self._files, self._kept, self._dropped, strict=True):
                    note = f"[{dropped:,} bytes before these are left out]\n".encode() if dropped else b""
                    with contextlib.suppress(
                        OSError
                    ):  # a full disk: it is for people to read, nobody judges it
                        file.write_bytes(note + kept)
        return [kept.decode("utf-8", errors="replace") for kept in self._kept]

    def _read(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for number, pipe in enumerate(self._pipes):
                waiting.register(pipe, selectors.EVENT_READ, number)
            while waiting.get_map() and (self._over is None or time.monotonic() < self._over):
                for key, _ in waiting.select(LOOK):
                    if data := os.read(key.fd, BLOCK):
                        self._keep(key.data, data)
                    else:
                        waiting.unregister(key.fileobj)
        for pipe in self._pipes:
            pipe.close()

    def _keep(self, number: int, data: bytes) -> None:
        kept = self._kept[number]
        kept += data
        if (surplus := len(kept) - LIMIT) > BLOCK:
            del kept[:surplus]
            self._dropped[number] += surplus
