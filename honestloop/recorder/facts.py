"""What manifest.json says of a run about to start: command line, source, packages, machine."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA = "honestloop/record/v1"


def gathered(
    config: dict[str, Any], seed: int, rng: dict[str, Any], devices: list[str] | None
) -> dict[str, Any]:
    """The manifest. Times are UTC; the seed is text, because readers of JSON keep integers up to 2^53 only."""
    return {
        "schema": SCHEMA,
        "command_line": [sys.executable, *sys.argv],
        "started_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "seed": str(seed),
        "rng": rng,
        "config": config,
        "packages": packages(),
        "git": git_state(Path.cwd()),
        "platform": {
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "os": platform.platform(),
            "machine": platform.machine(),
            "processor": processor(),
            "logical_cores": os.cpu_count(),
            "devices": devices_in_use() if devices is None else devices,
        },
    }


def packages() -> dict[str, str]:
    """Name -> version of every installed distribution."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {str(name): str(found[name]) for name in sorted(filter(None, found), key=str.lower)}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, whether anything differs from it, and the SHA-256 of the difference; None outside a work tree."""
    sha = _git(folder, "rev-parse", "--verify", "HEAD")
    status = _git(folder, "status", "--porcelain")
    diff = _git(folder, "diff", "HEAD", "--binary")
    if sha is None or status is None or diff is None:
        return None
    digest = hashlib.sha256(diff).hexdigest()
    return {"sha": sha.decode().strip(), "dirty": bool(status), "diff_sha256": digest}


def processor() -> str:
    """The processor's name, of /proc/cpuinfo where there is one."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def devices_in_use() -> list[str]:
    """What the libraries that the process has imported compute on; none of them is imported for this."""
    found = ["cpu"]
    if torch := sys.modules.get("torch"):
        found += [f"cuda: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if jax := sys.modules.get("jax"):
        found += [f"{d.platform}: {d.device_kind}" for d in jax.devices() if d.platform != "cpu"]
    return list(dict.fromkeys(found))


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, without taking a lock; None where it cannot work."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
